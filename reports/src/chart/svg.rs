//! A drawing backend for plotters that writes SVG without any colour or size: classes, which the page's style sheet themes.
//!
//! plotters counts in whole pixels, so it draws at ten times the size and every coordinate is divided again. Leaves out rasters
//! (`blit_bitmap` draws nothing; no chart here uses one).

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::rc::Rc;

use plotters::style::RGBColor;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontTransform,
};

/// Units of plotters for one unit of the picture.
pub(crate) const FINE: i32 = 10;

/// What something is drawn with. plotters carries colours, so each ink is one; the backend turns it into a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Grid lines.
    Grid = 1,
    /// The axes.
    Axis = 2,
    /// Text beside the axes.
    Label = 3,
    /// The data, in the colour of its group.
    Data = 4,
    /// A line that marks a value, and its text.
    Rule = 5,
}

impl Ink {
    pub(crate) fn color(self) -> RGBColor {
        RGBColor(self as u8, 0, 0)
    }

    fn class(color: BackendColor) -> &'static str {
        match color.rgb.0 {
            1 => "g",
            2 => "a",
            3 => "t",
            5 => "r",
            _ => "d",
        }
    }
}

/// The picture's text while it grows; shared, so that groups and titles can be opened around what plotters draws.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet(Rc<RefCell<String>>);

impl Sheet {
    fn put(&self, text: std::fmt::Arguments) {
        // Writing to a String can't fail.
        let _ = self.0.borrow_mut().write_fmt(text);
    }

    /// Opens a group with a class and, if not empty, a title that a pointer shows.
    pub(crate) fn open(&self, class: &str, title: &str) {
        self.put(format_args!("<g class=\"{class}\">"));
        if !title.is_empty() {
            self.put(format_args!("<title>{}</title>", escaped(title)));
        }
    }

    /// Closes the group.
    pub(crate) fn close(&self) {
        self.put(format_args!("</g>"));
    }

    /// What was drawn.
    pub(crate) fn take(&self) -> String {
        self.0.take()
    }
}

/// Text that may stand in an element or attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The backend: a sheet and its size in fine units.
#[derive(Debug)]
pub(crate) struct Svg {
    sheet: Sheet,
    size: (u32, u32),
}

impl Svg {
    /// A picture of `width` × `height` units.
    pub(crate) fn new(sheet: &Sheet, width: u32, height: u32) -> Self {
        Self { sheet: sheet.clone(), size: (width * FINE.unsigned_abs(), height * FINE.unsigned_abs()) }
    }

    fn points(points: impl IntoIterator<Item = BackendCoord>) -> String {
        let mut text = String::new();
        for (x, y) in points {
            let gap = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{gap}{},{}", Units(x), Units(y));
        }
        text
    }
}

/// A coordinate in the picture's units, with one decimal at most.
struct Units(i32);

impl std::fmt::Display for Units {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, tenth) = (self.0 / FINE, (self.0 % FINE).abs());
        let sign = if self.0 < 0 && whole == 0 { "-" } else { "" };
        match tenth {
            0 => write!(f, "{whole}"),
            _ => write!(f, "{sign}{whole}.{tenth}"),
        }
    }
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Svg {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        let class = Ink::class(color);
        self.sheet.put(format_args!("<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"0.5\"/>", Units(x), Units(y)));
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        if style.color().alpha > 0.0 {
            let class = Ink::class(style.color());
            let path = Self::points([from, to]);
            self.sheet.put(format_args!("<polyline class=\"{class}\" points=\"{path}\"/>"));
        }
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        let class = if fill { "m" } else { "o" };
        if style.color().alpha > 0.0 {
            self.sheet.put(format_args!(
                "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                Units(from.0.min(to.0)),
                Units(from.1.min(to.1)),
                Units((to.0 - from.0).abs()),
                Units((to.1 - from.1).abs())
            ));
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn {
        if style.color().alpha > 0.0 {
            let class = Ink::class(style.color());
            self.sheet.put(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", Self::points(path)));
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, _: &S, fill: bool) -> Drawn {
        let class = if fill { "m" } else { "o" };
        let radius = Units(i32::try_from(radius).unwrap_or(i32::MAX));
        self.sheet.put(format_args!(
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{radius}\"/>",
            Units(x),
            Units(y)
        ));
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vert: I, style: &S) -> Drawn {
        if style.color().alpha > 0.0 {
            self.sheet.put(format_args!("<polygon class=\"m\" points=\"{}\"/>", Self::points(vert)));
        }
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, (x, y): BackendCoord) -> Drawn {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        // SVG places the baseline; these shares of the size put top, middle and bottom of the text where they were asked for.
        let size = style.size();
        let down = match style.anchor().v_pos {
            VPos::Top => size * 0.82,
            VPos::Center => size * 0.34,
            VPos::Bottom => size * -0.2,
        };
        let class = Ink::class(style.color());
        let y = Units(y + down.round() as i32);
        let turn = match style.transform() {
            FontTransform::None => String::new(),
            FontTransform::Rotate90 => format!(" transform=\"rotate(90 {} {y})\"", Units(x)),
            FontTransform::Rotate180 => format!(" transform=\"rotate(180 {} {y})\"", Units(x)),
            FontTransform::Rotate270 => format!(" transform=\"rotate(270 {} {y})\"", Units(x)),
        };
        self.sheet.put(format_args!(
            "<text class=\"{class}\" x=\"{}\" y=\"{y}\"{anchor}{turn}>{}</text>",
            Units(x),
            escaped(text)
        ));
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        // A system font is not known here; this is a little wider than any common one.
        Ok(((text.chars().count() as f64 * style.size() * 0.56) as u32, style.size() as u32))
    }

    fn blit_bitmap(&mut self, _: BackendCoord, _: (u32, u32), _: &[u8]) -> Drawn {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fine_units_become_decimals() {
        assert_eq!(Units(125).to_string(), "12.5");
        assert_eq!(Units(120).to_string(), "12");
        assert_eq!(Units(-5).to_string(), "-0.5");
        assert_eq!(Units(-15).to_string(), "-1.5");
    }

    #[test]
    fn what_is_drawn_has_classes_and_no_colour() {
        let sheet = Sheet::default();
        let mut svg = Svg::new(&sheet, 100, 50);
        assert_eq!(svg.get_size(), (1_000, 500));
        sheet.open("s0", "a < b");
        let ink = Ink::Data.color();
        let color = BackendColor { alpha: 1.0, rgb: (ink.0, ink.1, ink.2) };
        svg.draw_path([(0, 0), (15, 20)], &color).unwrap();
        svg.draw_circle((10, 10), 35, &color, true).unwrap();
        sheet.close();
        assert_eq!(
            sheet.take(),
            "<g class=\"s0\"><title>a &lt; b</title><polyline class=\"d\" points=\"0,0 1.5,2\"/>\
             <circle class=\"m\" cx=\"1\" cy=\"1\" r=\"3.5\"/></g>"
        );
    }
}
