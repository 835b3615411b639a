//! Things in the order they came, each found by its number at once.
//!
//! Owns: numbers and places. Does not: know what they number.
//! Invariant: a number is given out again only after everything has left, or by [`Queue::close_up`].

/// Holes beyond as many as there are things that are left alone.
const SLACK: usize = if cfg!(test) { 4 } else { 1024 };

/// Things by number; what leaves leaves a hole.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    places: Vec<Option<T>>,
    count: usize,
}

impl<T> Queue<T> {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), count: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Behind all others; its number.
    pub(crate) fn push(&mut self, thing: T) -> u32 {
        self.places.push(Some(thing));
        self.count += 1;
        (self.places.len() - 1) as u32
    }

    /// The one of this number.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(number as usize)?.as_ref()
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Takes it out. With the last one the room goes.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.count -= 1;
        if self.count == 0 {
            self.places = Vec::new();
        }
        Some(thing)
    }

    /// All, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.places).filter_map(|(number, thing)| Some((number, thing.as_ref()?)))
    }

    /// Most places are holes.
    pub(crate) fn is_sparse(&self) -> bool {
        self.places.len() > 2 * self.count + SLACK
    }

    /// Gives numbers without holes; `moved` is told each thing's number before and now.
    pub(crate) fn close_up(&mut self, mut moved: impl FnMut(u32, u32, &T)) {
        let mut now = 0;
        let places = std::mem::take(&mut self.places);
        for (before, thing) in (0..).zip(places) {
            let Some(thing) = thing else { continue };
            moved(before, now, &thing);
            self.places.push(Some(thing));
            now += 1;
        }
    }
}
