//! Figures as a picture: a bar each, with its spread, its target and its floor; a line for those that were measured
//! with several numbers of Services.
//!
//! Owns: the drawing. Does not: measure, or judge.
//! Invariant: every figure of the report is in the picture; figures of one unit share an axis that begins at zero.

mod lines;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Item, Report, number};
use crate::exit::Failure;

const WIDTH: u32 = 900;
const ROW: u32 = 28;
/// Caption, axis and margins of a panel.
const FRAME: u32 = 90;
const HEAD: u32 = 60;
/// Room for names.
const NAMES: u32 = 250;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Whether a picture can be written there.
pub fn check(file: &Path) -> Result<(), Failure> {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match file.extension().is_some_and(|it| it == "svg") && directory.is_dir() {
        true => Ok(()),
        false => Err(Failure::bad_input(anyhow!(
            "--plot {}: give the name of an .svg file in a directory that exists",
            file.display()
        ))),
    }
}

/// Draws the report into a file.
pub fn write(report: &Report, file: &Path) -> Result<(), Failure> {
    let svg = draw(report).map_err(|error| anyhow!("--plot {}: {error}", file.display()))?;
    Ok(fs::write(file, svg).with_context(|| format!("--plot {}", file.display()))?)
}

/// The picture's text.
fn draw(report: &Report) -> Result<String, String> {
    let lines = lines::panels(&report.items);
    let panels = by_unit(&report.items);
    let bars: u32 = panels.iter().map(|(_, items)| panel_height(items)).sum();
    let height = HEAD + lines.len() as u32 * lines::HEIGHT + bars;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let (head, mut rest) = root.split_vertically(HEAD);
        let title = format!("{}, {}", report.command, report.date);
        head.draw(&Text::new(title, (10, 10), ("sans-serif", 18))).map_err(text)?;
        let key = "bar: figure   black line: low to high   red: at most   grey: floor";
        head.draw(&Text::new(key, (10, 36), ("sans-serif", 13).into_font().color(&BLACK.mix(0.6))))
            .map_err(text)?;
        for line in &lines {
            let (panel, below) = rest.split_vertically(lines::HEIGHT);
            line.draw(&panel).map_err(text)?;
            rest = below;
        }
        for (unit, items) in panels {
            let (panel, below) = rest.split_vertically(panel_height(&items));
            draw_panel(&panel, unit, &items).map_err(text)?;
            rest = below;
        }
        root.present().map_err(text)?;
    }
    Ok(svg)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn panel_height(items: &[&Item]) -> u32 {
    FRAME + ROW * u32::try_from(items.len()).unwrap_or(u32::MAX / ROW / 2)
}

/// In the order in which units appear.
fn by_unit(items: &[Item]) -> Vec<(&str, Vec<&Item>)> {
    let mut panels: Vec<(&str, Vec<&Item>)> = Vec::new();
    for item in items.iter().filter(|item| !lines::is_of_a_line(item, items)) {
        match panels.iter_mut().find(|(unit, _)| *unit == item.unit) {
            Some((_, items)) => items.push(item),
            None => panels.push((item.unit, vec![item])),
        }
    }
    panels
}

fn draw_panel(area: &Area<'_>, unit: &str, items: &[&Item]) -> Result<(), Box<dyn std::error::Error>> {
    let most = items.iter().flat_map(|it| [it.value, it.high, it.target.unwrap_or(0.0)]).fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.15 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(unit, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most, (0..items.len()).into_segmented())?;
    // The first figure on top.
    let at = |row: usize| items.len() - 1 - row;
    let name = |row: &SegmentValue<usize>| match row {
        SegmentValue::CenterOf(row) if *row < items.len() => {
            items.get(at(*row)).map(|it| label(it)).unwrap_or_default()
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(items.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|value| number(*value))
        .draw()?;
    for (index, item) in items.iter().enumerate() {
        let row = at(index);
        let (top, middle, bottom) =
            (SegmentValue::Exact(row), SegmentValue::CenterOf(row), SegmentValue::Exact(row + 1));
        let colour = if item.met == Some(false) { RGBColor(214, 120, 60) } else { RGBColor(90, 140, 200) };
        let mut bar = Rectangle::new([(0.0, top.clone()), (item.value, bottom.clone())], colour.filled());
        bar.set_margin(6, 6, 0, 0);
        chart.draw_series([bar])?;
        let spread = vec![(item.low, middle.clone()), (item.high, middle.clone())];
        chart.draw_series([PathElement::new(spread, BLACK.stroke_width(1))])?;
        let across = |value: f64| vec![(value, top.clone()), (value, bottom.clone())];
        let marks = [(item.floor, BLACK.mix(0.45)), (item.target, RED.mix(0.9))];
        for (value, colour) in marks.into_iter().filter_map(|(value, colour)| Some((value?, colour))) {
            chart.draw_series([PathElement::new(across(value), colour.stroke_width(2))])?;
        }
        let figure = Text::new(number(item.value), (item.high.max(item.value), middle), ("sans-serif", 12));
        chart.draw_series([figure])?;
    }
    Ok(())
}

fn label(item: &Item) -> String {
    [Some(item.numbered().as_str()), item.family].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;

    fn item(name: &'static str, unit: &'static str, value: f64, target: Option<f64>) -> Item {
        let met = target.map(|target| value <= target);
        let (family, floor) = (Some("ipv6"), Some(1.0));
        let (low, high) = (value * 0.9, value * 1.2);
        Item { name, family, unit, value, low, high, target, floor, met, ..Item::default() }
    }

    #[test]
    fn every_figure_is_in_the_picture_with_its_name_and_value() {
        let items = vec![
            item("established-pod-pod", "ns", 61.0, Some(125.0)),
            item("new-pod-pod", "ns", 571.0, Some(500.0)),
            item("agent-rss", "bytes", 33_000_000.0, None),
        ];
        let report = Report {
            items,
            missing_peers: Vec::new(),
            machine: Machine::read(),
            date: "today".into(),
            command: "tortie bench packet",
        };
        let svg = draw(&report).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for part in [
            "established-pod-pod ipv6",
            "new-pod-pod ipv6",
            "agent-rss ipv6",
            "61",
            "571",
            "33000000",
            "today",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert_eq!(svg.matches("#D6783C").count(), 1, "the one that misses its target: {svg}");
    }

    #[test]
    fn figures_with_several_numbers_of_services_are_lines_and_no_bars() {
        let of =
            |services, value| Item { services: Some(services), ..item("connect-tc", "µs", value, None) };
        let items = vec![of(10, 31.0), of(5000, 32.0), item("restart-writes", "", 0.0, Some(0.0))];
        assert!(lines::is_of_a_line(&items[0], &items) && !lines::is_of_a_line(&items[2], &items));
        let report = Report {
            items,
            missing_peers: Vec::new(),
            machine: Machine::read(),
            date: "today".into(),
            command: "tortie bench services",
        };
        let svg = draw(&report).unwrap();
        for part in ["connect-tc: 32", "µs, ipv6, by the number of Services", "restart-writes ipv6"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("connect-tc of 10"), "{svg}");
    }

    #[test]
    fn a_picture_that_cannot_be_written_is_refused_before_anything_is_measured() {
        for wrong in ["x.png", "/nonexistent/x.svg", "svg"] {
            assert!(check(Path::new(wrong)).is_err(), "{wrong}");
        }
        assert!(check(Path::new("x.svg")).is_ok());
    }
}
