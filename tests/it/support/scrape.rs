//! The metrics as a scraper reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::within;

/// What `/metrics` says.
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub async fn of(address: SocketAddr) -> Self {
        let answer = within("metrics", reqwest::get(format!("http://{address}/metrics"))).await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// The sum of a metric's series that hold this label.
    pub fn sum(&self, metric: &str, label: &str) -> f64 {
        let mine = self.0.iter().filter(|(name, _)| name.split('{').next() == Some(metric) && name.contains(label));
        mine.map(|(_, value)| value).sum()
    }
}
