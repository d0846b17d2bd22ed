//! One chart from data to SVG: frame, ticks, rules, bars, lines and marks, each line told apart by shape and dash besides colour.
//!
//! Leaves out colours and widths, which are the style sheet's.

use std::fmt::Write as _;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::ValueFormatter as _;
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{Circle, EmptyElement, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, ShapeStyle, TextStyle};

use super::axis::Axis;
use super::svg::{FINE, Ink, Sheet, Svg, escaped};

/// Size of a chart in its own units; at 360 px of page it is shown at about three quarters.
pub(crate) const WIDTH: u32 = 440;
const HEIGHT: u32 = 290;
/// Letters of the ticks in the same units.
const LETTERS: i32 = 13;

/// How a row looks in every chart: colour by class, shape, and whether it is hollow and dashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ident {
    /// Which colour and shape, 0 to 4; 4 is the ceiling's grey.
    pub(crate) tone: usize,
    /// Second of two alike: hollow marks, dashed line.
    pub(crate) second: bool,
}

impl Ident {
    /// Corners around the middle, in units of the mark's half size; none for a circle.
    fn corners(self) -> &'static [(f64, f64)] {
        match self.tone % 5 {
            0 => &[],
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.2), (1.1, 0.85), (-1.1, 0.85)],
            3 => &[(0.0, -1.3), (1.2, 0.0), (0.0, 1.3), (-1.2, 0.0)],
            _ => &[(-1.1, -0.85), (1.1, -0.85), (0.0, 1.2)],
        }
    }

    /// The group's classes.
    pub(crate) fn class(self, dashed: bool) -> String {
        let mut class = format!("s s{}", self.tone % 5);
        if self.second {
            class.push_str(" h");
        }
        if dashed || self.second {
            class.push_str(" x");
        }
        class
    }

    /// A key for a legend: line and mark.
    pub(crate) fn key(self, dashed: bool) -> String {
        let mark = match self.corners() {
            [] => "<circle class=\"m\" cx=\"14\" cy=\"6\" r=\"4\"/>".to_owned(),
            corners => {
                let mut points = String::new();
                for (x, y) in corners {
                    let _ = write!(points, "{:.1},{:.1} ", 14.0 + 4.0 * x, 6.0 + 4.0 * y);
                }
                format!("<polygon class=\"m\" points=\"{}\"/>", points.trim_end())
            }
        };
        format!(
            "<svg class=\"key\" viewBox=\"0 0 28 12\" aria-hidden=\"true\" focusable=\"false\"><g class=\"{}\">\
             <polyline class=\"d\" points=\"0,6 28,6\"/>{mark}</g></svg>",
            self.class(dashed)
        )
    }
}

/// One point of a line.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// What a pointer over it reads; empty for a point without a mark of its own.
    pub(crate) title: String,
    /// Drawn hollow: not carried, not valid.
    pub(crate) hollow: bool,
}

/// A line, or marks alone.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) ident: Ident,
    pub(crate) title: String,
    pub(crate) dashed: bool,
    /// Whether the marks are joined.
    pub(crate) joined: bool,
    pub(crate) marks: Vec<Mark>,
}

/// A bar from the axis up.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) ident: Ident,
    /// Its place on the x axis.
    pub(crate) place: usize,
    pub(crate) value: f64,
    pub(crate) title: String,
    /// The figure above it.
    pub(crate) label: String,
}

/// A line across the chart at a value.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Upright at an x value, or level at a y value.
    pub(crate) upright: bool,
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// A stretch of the x axis that is shaded from bottom to top.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) label: String,
}

/// A chart before it is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// Unique in the page.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: String,
    /// What a reader who can't see it is told besides.
    pub(crate) description: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) x_title: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) bands: Vec<Band>,
}

type Chart<'a> = ChartContext<'a, Svg, Cartesian2d<Axis, Axis>>;

fn ink(ink: Ink) -> ShapeStyle {
    ink.color().stroke_width(1)
}

fn filled() -> ShapeStyle {
    Ink::Data.color().filled()
}

fn letters(ink: Ink, h: HPos, v: VPos) -> TextStyle<'static> {
    let mut style = TextStyle::from(("sans-serif", LETTERS * FINE)).pos(Pos::new(h, v));
    style.color = ink.color().to_backend_color();
    style
}

impl Plot {
    /// The chart as an `svg` element with a title and a description.
    pub(crate) fn svg(&self) -> String {
        let sheet = Sheet::default();
        self.draw(&sheet).expect("the backend writes to memory and never fails");
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{}</svg>",
            escaped(&self.title),
            escaped(&self.description),
            sheet.take(),
            id = self.id,
        )
    }

    fn draw(&self, sheet: &Sheet) -> Result<(), Box<dyn std::error::Error>> {
        let area = Svg::new(sheet, WIDTH, HEIGHT).into_drawing_area();
        let widest = i32::try_from(self.y.widest()).unwrap_or(i32::MAX).min(12);
        let left = (widest * LETTERS * 56 / 100 + 10).max(30);
        let mut chart = ChartBuilder::on(&area)
            .margin_top(14 * FINE)
            .margin_right(16 * FINE)
            .x_label_area_size(40 * FINE)
            .y_label_area_size(left * FINE)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        self.bands(sheet, &chart)?;
        sheet.open("f", "");
        let name_x = |value: &f64| self.x.format_ext(value);
        let name_y = |value: &f64| self.y.format_ext(value);
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(ink(Ink::Grid))
            .max_light_lines(0)
            .axis_style(ink(Ink::Axis))
            .set_all_tick_mark_size(4 * FINE)
            .label_style(letters(Ink::Label, HPos::Center, VPos::Top))
            .axis_desc_style(letters(Ink::Label, HPos::Center, VPos::Top))
            .x_label_formatter(&name_x)
            .y_label_formatter(&name_y);
        if !self.bars.is_empty() {
            mesh.disable_x_mesh();
        }
        if !self.x_title.is_empty() {
            mesh.x_desc(self.x_title.clone());
        }
        mesh.draw()?;
        sheet.close();
        self.bars(sheet, &chart)?;
        for line in &self.lines {
            Self::line(sheet, &chart, line)?;
        }
        self.rules(sheet, &chart)
    }

    /// Behind everything else; a band that is less than the pen's width is drawn that wide.
    fn bands(&self, sheet: &Sheet, chart: &Chart) -> Result<(), Box<dyn std::error::Error>> {
        let ((left, right), (low, high)) = (self.x.ends(), self.y.ends());
        let least = (right - left) / f64::from(WIDTH);
        for band in &self.bands {
            let (from, to) = (band.from.clamp(left, right), band.to.max(band.from + least).clamp(left, right));
            sheet.open("b", &band.label);
            chart.plotting_area().draw(&Rectangle::new([(from, high), (to, low)], filled()))?;
            let style = letters(Ink::Label, HPos::Left, VPos::Top);
            let text = EmptyElement::at((from, high)) + Text::new(band.label.clone(), (4 * FINE, 3 * FINE), style);
            chart.plotting_area().draw(&text)?;
            sheet.close();
        }
        Ok(())
    }

    fn bars(&self, sheet: &Sheet, chart: &Chart) -> Result<(), Box<dyn std::error::Error>> {
        let base = self.y.ends().0;
        for bar in &self.bars {
            let place = bar.place as f64;
            sheet.open(&bar.ident.class(false), &bar.title);
            chart.plotting_area().draw(&Rectangle::new([(place - 0.28, bar.value), (place + 0.28, base)], filled()))?;
            let style = letters(Ink::Label, HPos::Center, VPos::Bottom);
            let text = EmptyElement::at((place, bar.value)) + Text::new(bar.label.clone(), (0, -3 * FINE), style);
            chart.plotting_area().draw(&text)?;
            sheet.close();
        }
        Ok(())
    }

    fn line(sheet: &Sheet, chart: &Chart, line: &Line) -> Result<(), Box<dyn std::error::Error>> {
        sheet.open(&line.ident.class(line.dashed), &line.title);
        if line.joined && line.marks.len() > 1 {
            let path: Vec<(f64, f64)> = line.marks.iter().map(|m| (m.x, m.y)).collect();
            chart.plotting_area().draw(&PathElement::new(path, ink(Ink::Data)))?;
        }
        for mark in line.marks.iter().filter(|m| !m.title.is_empty()) {
            sheet.open(if mark.hollow { "h" } else { "p" }, &mark.title);
            let size = f64::from(4 * FINE);
            match line.ident.corners() {
                [] => chart.plotting_area().draw(&Circle::new((mark.x, mark.y), size, filled()))?,
                corners => {
                    let points: Vec<(i32, i32)> =
                        corners.iter().map(|(x, y)| ((x * size) as i32, (y * size) as i32)).collect();
                    chart
                        .plotting_area()
                        .draw(&(EmptyElement::at((mark.x, mark.y)) + Polygon::new(points, filled())))?;
                }
            }
            sheet.close();
        }
        sheet.close();
        Ok(())
    }

    fn rules(&self, sheet: &Sheet, chart: &Chart) -> Result<(), Box<dyn std::error::Error>> {
        let ((left, right), (low, high)) = (self.x.ends(), self.y.ends());
        for rule in &self.rules {
            sheet.open("u", &rule.label);
            // Level labels stand at the right end, upright ones at the foot: there they meet least.
            let (ends, at, offset, h, v) = if rule.upright {
                ([(rule.at, low), (rule.at, high)], (rule.at, low), (5 * FINE, -5 * FINE), HPos::Left, VPos::Bottom)
            } else {
                ([(left, rule.at), (right, rule.at)], (right, rule.at), (0, -3 * FINE), HPos::Right, VPos::Bottom)
            };
            chart.plotting_area().draw(&PathElement::new(ends.to_vec(), ink(Ink::Rule)))?;
            let text = EmptyElement::at(at) + Text::new(rule.label.clone(), offset, letters(Ink::Rule, h, v));
            chart.plotting_area().draw(&text)?;
            sheet.close();
        }
        Ok(())
    }
}
