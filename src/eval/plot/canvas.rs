//! Shapes and text of an SVG document.

use std::fmt::Write;

pub(super) const INK: &str = "#1f2933";
pub(super) const FAINT: &str = "#616e7c";
pub(super) const GRID: &str = "#e4e7eb";
const GROUND: &str = "#ffffff";
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
/// Width of a mean letter, in sizes of the font; a little more than true, so that boxes do not touch.
const LETTER: f64 = 0.58;

/// Where a text stands relative to its point.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A text's look.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) bold: bool,
    pub(super) anchor: Anchor,
}

impl Style {
    pub(super) const fn new(size: f64, colour: &'static str, anchor: Anchor) -> Self {
        Self {
            size,
            colour,
            bold: false,
            anchor,
        }
    }

    pub(super) const fn bold(mut self, bold: bool) -> Self {
        self.bold = bold;
        self
    }
}

/// How wide a text will be, about.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// A document under construction.
pub(super) struct Canvas {
    body: String,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escaped(title);
        let mut canvas = Self {
            body: String::new(),
        };
        canvas.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\" font-family=\"{FONT}\">\n\
             <title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{GROUND}\"/>\n"
        ));
        canvas
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.body.write_fmt(text);
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, style: Style) {
        self.turned_text(x, y, text, style, false);
    }

    /// Text, read upwards if `up`.
    pub(super) fn turned_text(&mut self, x: f64, y: f64, text: &str, style: Style, up: bool) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        let turn = match up {
            true => format!(" transform=\"rotate(-90 {x:.1} {y:.1})\""),
            false => String::new(),
        };
        let Style { size, colour, .. } = style;
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" \
             text-anchor=\"{anchor}\"{weight}{turn}>{}</text>\n",
            escaped(text)
        ));
    }

    /// A line through points; `dashes` as in `stroke-dasharray`, empty for none.
    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dashes: &str) {
        let points: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let dashes = match dashes {
            "" => String::new(),
            _ => format!(" stroke-dasharray=\"{dashes}\""),
        };
        self.put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"{dashes}/>\n",
            points.join(" ")
        ));
    }

    /// A bar with what is shown when it is pointed at.
    pub(super) fn bar(&mut self, corner: (f64, f64), size: (f64, f64), fill: &str, hint: &str) {
        self.put(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\">\
             <title>{}</title></rect>\n",
            corner.0,
            corner.1,
            size.0.max(0.0),
            size.1.max(0.0),
            escaped(hint)
        ));
    }

    /// A disc with what is shown when it is pointed at.
    pub(super) fn disc(&mut self, centre: (f64, f64), radius: f64, fill: &str, hint: &str) {
        self.put(format_args!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"{fill}\" stroke=\"{GROUND}\" \
             stroke-width=\"1.2\"><title>{}</title></circle>\n",
            centre.0,
            centre.1,
            escaped(hint)
        ));
    }

    /// The same of a shape given by its corners.
    pub(super) fn shape(&mut self, corners: &[(f64, f64)], fill: &str, hint: &str) {
        let corners: Vec<_> = corners
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.put(format_args!(
            "<polygon points=\"{}\" fill=\"{fill}\" stroke=\"{GROUND}\" stroke-width=\"1.2\">\
             <title>{}</title></polygon>\n",
            corners.join(" "),
            escaped(hint)
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }
}

/// Text as it may stand in XML; characters XML has no way to write become U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(' '),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                safe.push('\u{fffd}')
            }
            _ => safe.push(c),
        }
    }
    safe
}
