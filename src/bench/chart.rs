//! Measurements as horizontal bars: in the terminal, and as SVG.

use super::results::Measurement;
use super::stats::short;

/// Characters of the longest bar in the terminal.
const BAR: usize = 40;

/// Pixels of the SVG: its width, a bar's height with the space below, and the columns of labels and values.
const WIDTH: usize = 860;
const ROW: usize = 34;
const LABELS: usize = 300;
const VALUES: usize = 110;

/// One line a measurement, the longest time as the longest bar.
pub(super) fn text(measurements: &[Measurement]) -> String {
    let labels: Vec<_> = measurements.iter().map(label).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or_default();
    let longest = longest(measurements);
    let line = |(measurement, label): (&Measurement, &String)| {
        let length = (measurement.time.median / longest * BAR as f64).round().max(1.0) as usize;
        format!("  {label:<width$}  {:<BAR$} {}\n", "#".repeat(length), value(measurement))
    };
    measurements.iter().zip(&labels).map(line).collect()
}

/// A chart of its own, also inside an HTML page.
pub(super) fn svg(measurements: &[Measurement]) -> String {
    let height = ROW * measurements.len() + 8;
    let title = format!("Time: {}", measurements.first().map(Measurement::work).unwrap_or_default());
    let longest = longest(measurements);
    let space = (WIDTH - LABELS - VALUES) as f64;
    let bar = |(at, measurement): (usize, &Measurement)| {
        let (top, length) = (at * ROW + 6, (measurement.time.median / longest * space).max(1.0));
        let middle = top + 16;
        let end = LABELS as f64 + length + 8.0;
        let (label, value) = (escaped(&label(measurement)), escaped(&value(measurement)));
        let fill = if measurement.engine == "latentd" { "#2563eb" } else { "#94a3b8" };
        format!(
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"22\" fill=\"{fill}\"/>\
             <text x=\"{end:.1}\" y=\"{middle}\">{value}</text>\n",
            LABELS - 10
        )
    };
    let bars: String = measurements.iter().enumerate().map(bar).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#334155\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{bars}</svg>\n",
        escaped(&title)
    )
}

/// Engine, precision and device.
pub(super) fn label(measurement: &Measurement) -> String {
    let precision = measurement.precision.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{precision}, {}", measurement.engine, measurement.device)
}

/// The median with its unit.
pub(super) fn value(measurement: &Measurement) -> String {
    format!("{} {}", short(measurement.time.median), measurement.time.unit)
}

/// Text for HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn longest(measurements: &[Measurement]) -> f64 {
    measurements.iter().map(|measurement| measurement.time.median).fold(f64::MIN_POSITIVE, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{denoise, of};
    use super::*;

    #[test]
    fn bars_are_as_long_as_times() {
        let two = [of(&denoise("latentd", 2.0), "a"), of(&denoise("diffusers", 4.0), "b")];
        let drawn = text(&two);
        let lengths: Vec<_> = drawn.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!(lengths, [BAR / 2, BAR], "{drawn}");
        let svg = svg(&two);
        let space = WIDTH - LABELS - VALUES;
        for width in [format!("width=\"{}.0\"", space / 2), format!("width=\"{space}.0\"")] {
            assert!(svg.contains(&width), "{width}: {svg}");
        }
        assert!(svg.contains("GPU &lt;A&gt;") && !svg.contains("<A>"), "{svg}");
    }
}
