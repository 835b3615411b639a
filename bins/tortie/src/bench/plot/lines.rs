//! Figures by the number of Services: a line each.
//!
//! Owns: which figures are lines, and their panels. Does not: draw what was measured once.
//! Invariant: figures of one unit and family share a panel; both axes say where they begin.

use std::collections::BTreeSet;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::Area;
use crate::bench::{Item, number};

/// Of a panel.
pub const HEIGHT: u32 = 320;
/// Room for the key.
const KEY: u32 = 270;
/// From here on a linear axis would hide the small.
const WIDE: f64 = 10.0;
const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
];

/// Figures with one unit and family.
pub struct Panel<'a> {
    title: String,
    series: Vec<(&'static str, Vec<&'a Item>)>,
}

/// Whether it was measured with several numbers of Services.
pub fn is_of_a_line(item: &Item, all: &[Item]) -> bool {
    let of = |it: &&Item| it.name == item.name && it.family == item.family;
    let counts: BTreeSet<_> = all.iter().filter(of).filter_map(|it| it.services).collect();
    item.services.is_some() && counts.len() > 1
}

/// In the order in which they appear.
pub fn panels(all: &[Item]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for item in all.iter().filter(|item| is_of_a_line(item, all)) {
        let family = item.family.map(|family| format!(", {family}")).unwrap_or_default();
        let title = format!("{}{family}, by the number of Services", item.unit);
        let known = panels.iter().position(|panel| panel.title == title);
        let index = known.unwrap_or_else(|| {
            panels.push(Panel { title, series: Vec::new() });
            panels.len() - 1
        });
        let Some(panel) = panels.get_mut(index) else { continue };
        match panel.series.iter_mut().find(|(name, _)| *name == item.name) {
            Some((_, items)) => items.push(item),
            None => panel.series.push((item.name, vec![item])),
        }
    }
    panels
}

impl Panel<'_> {
    /// Draws it.
    pub fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let values = || self.series.iter().flat_map(|(_, items)| items.iter().map(|it| it.value));
        let least = values().fold(f64::INFINITY, f64::min);
        let most = values().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        match least > 0.0 && most / least > WIDE {
            true => self.draw_on(area, (least / 1.5..most * 1.5).log_scale()),
            false => self.draw_on(area, 0.0..most * 1.15),
        }
    }

    fn draw_on<Y>(&self, area: &Area<'_>, range: Y) -> Result<(), Box<dyn std::error::Error>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let (width, _) = area.dim_in_pixel();
        let (left, key) = area.split_horizontally(width.saturating_sub(KEY));
        let counts = || self.series.iter().flat_map(|(_, items)| items.iter().filter_map(|it| it.services));
        let fewest = counts().min().unwrap_or(1).max(1);
        let most = counts().max().unwrap_or(1).max(fewest + 1);
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d((f64::from(fewest)..f64::from(most)).log_scale(), range)?;
        chart
            .configure_mesh()
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        for (row, ((name, items), colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let point = |it: &&Item| (f64::from(it.services.unwrap_or(1)), it.value);
            let points: Vec<(f64, f64)> = items.iter().map(point).collect();
            chart.draw_series(points.iter().map(|at| Circle::new(*at, 3, colour.filled())))?;
            chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?;
            let last = points.last().map(|(_, value)| number(*value)).unwrap_or_default();
            let y = 40 + row as i32 * 20;
            key.draw(&Rectangle::new([(4, y), (16, y + 10)], colour.filled()))?;
            key.draw(&Text::new(format!("{name}: {last}"), (22, y), ("sans-serif", 13)))?;
        }
        Ok(())
    }
}
