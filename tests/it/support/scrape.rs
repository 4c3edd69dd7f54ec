//! What the metrics page says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::within;

/// The page as it was at one moment.
pub struct Scrape {
    /// Its text.
    pub text: String,
    /// Every line that is a figure.
    pub series: Vec<Series>,
}

/// One figure.
#[derive(Debug, PartialEq)]
pub struct Series {
    /// As it stands there, with `_bucket`, `_sum` or `_count` for a histogram.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    /// Reads the page at this address.
    pub async fn of(address: SocketAddr) -> Self {
        let answer = within("metrics", reqwest::get(format!("http://{address}/metrics"))).await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(Series::read).collect();
        Self { text, series }
    }

    /// The sum of a metric's series that have these labels.
    pub fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let mine = self.series.iter().filter(|series| series.name == metric);
        let has = |series: &&Series| labels.iter().all(|(name, value)| series.label(name) == Some(value));
        mine.filter(has).map(|series| series.value).sum()
    }

    /// What a metric says by these labels, where it is not zero.
    pub fn by(&self, metric: &str, labels: &[&str]) -> BTreeMap<Vec<String>, f64> {
        let mut sums = BTreeMap::new();
        for series in self.series.iter().filter(|series| series.name == metric && series.value != 0.0) {
            let key = labels.iter().map(|name| series.label(name).unwrap_or_default().to_owned()).collect();
            *sums.entry(key).or_default() += series.value;
        }
        sums
    }

    /// Every metric: its type, and the labels its series have.
    pub fn metrics(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let labels = |name: &str| {
            let mine = self.series.iter().filter(move |series| series.metric() == name || series.name == name);
            mine.flat_map(|series| series.labels.keys().filter(|label| *label != "le").cloned()).collect()
        };
        types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), labels(name)))).collect()
    }
}

impl Series {
    fn read(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let pairs = labels.strip_suffix('}').unwrap().split_terminator("\",");
        let labels = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The metric it belongs to.
    fn metric(&self) -> &str {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| self.name.strip_suffix(end)).unwrap_or(&self.name)
    }
}
