//! `latentd bench compare`: measurements of the same work beside each other. `latentd bench report`: any measurements as
//! one HTML page, those of the same work together.

use super::chart::{self, escaped};
use super::results::{self, Measurement};
use super::stats::short;
use crate::args::{CompareArgs, HtmlReportArgs};
use anyhow::{Context, bail};

/// A page without scripts and without other files.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1e293b}\
    table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #e2e8f0}\
    td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}\
    code{font-size:13px;overflow-wrap:anywhere}h2{margin-top:2.5rem}";

/// Compares the measurements of the files with the first one.
///
/// # Errors
/// A file is no measurement, or measures other work.
pub(super) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let measurements = results::read(&args.files)?;
    let (first, others) = measurements.split_first().context("no measurement")?;
    if let Some(unlike) = others.iter().find_map(|other| first.unlike(other)) {
        bail!("these measure different work, which says nothing about engines: {unlike}");
    }
    println!("latentd bench compare: {}\n", first.work());
    print!("{}\n{}", table(&measurements), chart::text(&measurements));
    match &args.svg {
        Some(path) => std::fs::write(path, chart::svg(&measurements))
            .with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    }
}

/// Writes the page.
///
/// # Errors
/// A file is no measurement, or the page cannot be written.
pub(super) fn report(args: &HtmlReportArgs) -> anyhow::Result<()> {
    let groups = groups(results::read(&args.files)?);
    let output = &args.output;
    std::fs::write(output, page(&groups)).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}", output.display());
    Ok(())
}

const HEAD: [&str; 9] = [
    "engine",
    "device",
    "precision",
    "time",
    "fastest to slowest",
    "relative",
    "TFLOP/s",
    "of peak",
    "memory",
];

/// Cells of each measurement, in the order of [`HEAD`]; `relative` is to the first one.
fn rows(measurements: &[Measurement]) -> Vec<[String; HEAD.len()]> {
    let absent = || "-".to_owned();
    let row = |one: &Measurement| {
        [
            one.engine.clone(),
            one.device.clone(),
            one.precision.clone().unwrap_or_else(absent),
            chart::value(one),
            format!("{} to {}", short(one.time.from), short(one.time.to)),
            format!("{:.2}x", one.time.median / measurements[0].time.median),
            one.tflops.map_or_else(absent, short),
            one.peak_share.map_or_else(absent, |share| format!("{:.0} %", 100.0 * share)),
            one.memory_bytes.map_or_else(absent, |bytes| format!("{} GB", short(bytes as f64 / 1e9))),
        ]
    };
    measurements.iter().map(row).collect()
}

fn table(measurements: &[Measurement]) -> String {
    let rows = rows(measurements);
    let head = HEAD.map(str::to_owned);
    let widths: Vec<_> = (0..HEAD.len())
        .map(|at| rows.iter().chain([&head]).map(|row| row[at].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |row: &[String; HEAD.len()]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    [&head].into_iter().chain(&rows).map(line).collect()
}

/// Those of the same work together, in the order of the files.
fn groups(measurements: Vec<Measurement>) -> Vec<Vec<Measurement>> {
    let mut groups: Vec<Vec<Measurement>> = Vec::new();
    for one in measurements {
        match groups.iter_mut().find(|group| group[0].unlike(&one).is_none()) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

fn page(groups: &[Vec<Measurement>]) -> String {
    let sections: String = groups.iter().map(|group| section(group)).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>latentd bench report</title>\n<style>{STYLE}</style>\n\
         <h1>latentd bench report</h1>\n{sections}</html>\n"
    )
}

fn section(group: &[Measurement]) -> String {
    let is_text = |at: usize| at < 3;
    let cell = |tag: &str, at: usize, text: &str| {
        let class = if is_text(at) { "" } else { " class=\"number\"" };
        format!("<{tag}{class}>{}</{tag}>", escaped(text))
    };
    let row = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().enumerate().map(|(at, text)| cell(tag, at, text)).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = row("th", &HEAD.map(str::to_owned));
    let body: String = rows(group).iter().map(|cells| row("td", cells)).collect();
    let source = |one: &Measurement| {
        let facts = [Some(&one.source), one.date.as_ref(), one.commit.as_ref()].into_iter().flatten();
        let facts = facts.map(|fact| escaped(fact)).collect::<Vec<_>>().join(", ");
        let command = one.command.as_ref().map(|line| format!("<br><code>{}</code>", escaped(line)));
        format!("<li>{}: {facts}{}</li>\n", escaped(&one.engine), command.unwrap_or_default())
    };
    let sources: String = group.iter().map(source).collect();
    format!(
        "<h2>{}</h2>\n<p>{}, median; relative to the first row.</p>\n{}<table>\n{head}{body}</table>\n<ul>\n{sources}</ul>\n",
        escaped(&group[0].work()),
        escaped(group[0].time.what),
        chart::svg(group)
    )
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{denoise, of};
    use super::*;

    #[test]
    fn a_row_is_relative_to_the_first() {
        let two = [of(&denoise("latentd", 2.0), "a"), of(&denoise("diffusers", 5.0), "b")];
        let table = table(&two);
        let lines: Vec<_> = table.lines().collect();
        assert!(
            lines[1].contains("latentd") && lines[1].contains("1.00x") && lines[1].contains("62 %"),
            "{table}"
        );
        assert!(
            lines[2].contains("diffusers") && lines[2].contains("2.50x") && lines[2].contains("20.0 GB"),
            "{table}"
        );
    }

    #[test]
    fn a_page_has_a_section_for_each_work() {
        let mut small = denoise("latentd", 1.0);
        small["width"] = 512.into();
        let all =
            vec![of(&denoise("latentd", 2.0), "a"), of(&small, "b"), of(&denoise("diffusers <x>", 5.0), "c")];
        let groups = groups(all);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let page = page(&groups);
        assert_eq!(page.matches("<h2>").count(), 2);
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("diffusers &lt;x&gt;") && !page.contains("<x>"));
    }
}
