//! What a misspelt word could have meant.
//!
//! Owns: the distance between words. Does not: know which words there are.
//! Invariant: takes no longer for a hostile name than for an honest one.

/// Longer names are nobody's misspelling, and comparing them would take long.
const LONGEST_NAME: usize = 64;

/// The word that looks most like `name`, if one does.
pub fn closest<'w>(name: &str, words: &[&'w str]) -> Option<&'w str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let limit = 1 + name.chars().count() / 4;
    let scored = words.iter().map(|word| (distance(name, word), *word));
    scored.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, word)| word)
}

/// Edits between two words, two neighbours that changed places counting as one; a different case is half an
/// edit, rounded down.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).map(|n| 2 * n).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![2 * (i + 1)];
        for (j, y) in b.iter().enumerate() {
            let change = match () {
                () if x == y => 0,
                () if x.eq_ignore_ascii_case(y) => 1,
                () => 2,
            };
            let mut best = (get(&last, j) + change).min(get(&last, j + 1) + 2).min(get(&row, j) + 2);
            let before = (i.checked_sub(1).and_then(|n| a.get(n)), j.checked_sub(1).and_then(|n| b.get(n)));
            if before == (Some(y), Some(x)) {
                best = best.min(get(&before_last, j.wrapping_sub(1)) + 2);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default() / 2
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_closest_word_is_one_that_somebody_could_have_meant() {
        let words = ["pods", "pros", "podSelector", "namespaceSelector", "ports"];
        assert_eq!(closest("pdos", &words), Some("pods"));
        assert_eq!(closest("podselector", &words), Some("podSelector"));
        assert_eq!(closest("prts", &words), Some("pros"), "the first of two that are as close");
        assert_eq!(closest("zebra", &words), None);
        assert_eq!(closest(&"pods".repeat(1_000_000), &words), None);
    }
}
