//! Curves on logarithmic axes, as SVG.

use std::fs;
use std::path::Path;

use plotters::prelude::*;

/// One curve.
#[derive(Debug)]
pub struct Line {
    /// As the legend calls it.
    pub name: &'static str,
    /// Where it goes through: both coordinates positive.
    pub points: Vec<(f64, f64)>,
}

/// Draws the curves into a file, whose directory is made.
pub fn draw(file: &Path, title: &str, across: &str, lines: &[Line]) {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = || points().map(of);
        values().fold(f64::INFINITY, f64::min) / 1.5..values().fold(0.0, f64::max) * 1.5
    };
    let directory = file.parent().expect("a file in a directory");
    fs::create_dir_all(directory).expect("a directory for plots");
    let root = SVGBackend::new(file, (760, 420)).into_drawing_area();
    root.fill(&WHITE).expect("a file that can be written");
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(range(|point| point.0).log_scale(), range(|point| point.1).log_scale())
        .expect("a range");
    let plain = |value: &f64| value.to_string();
    chart.configure_mesh().x_desc(across).x_label_formatter(&plain).y_label_formatter(&plain).draw().expect("axes");
    for (line, color) in lines.iter().zip([BLUE, RED, BLACK]) {
        let known: Vec<_> = line.points.iter().copied().filter(|(_, y)| y.is_finite()).collect();
        chart
            .draw_series(LineSeries::new(known, color.stroke_width(2)).point_size(3))
            .expect("a curve")
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()
        .expect("a legend");
    root.present().expect("a file that can be written");
    println!("drawn           : {}", file.display());
}
