//! `[tracing]`: trace contexts and the export of spans.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;
use url::Url;

use super::reader::Reader;
use super::secret::Secret;
use super::setting::{Setting, Words};
use super::source::{Literal, take_secret};

/// `[tracing]`. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Tracing {
    /// The collector, up to its `/v1/traces`; without one nothing is exported.
    pub endpoint: Option<Url>,
    /// Headers for the collector, as [`headers`] reads them.
    pub headers: Option<Secret>,
    /// The share of traces that begin here and are exported.
    pub sample: f64,
    /// Whether providers are told which trace a request belongs to.
    pub propagate: Propagate,
    /// The name of this service.
    pub service_name: String,
    /// What else is said of this process.
    pub resource_attributes: Vec<Pair>,
}

impl Tracing {
    pub(super) fn read(reader: &mut Reader<'_>, env: &BTreeMap<String, String>) -> Self {
        let endpoint: Option<Collector> = reader.optional("tracing.endpoint");
        let secret = take_secret(reader, "tracing.headers", Literal::Refused, env);
        if secret.as_ref().is_some_and(|secret| headers(secret).is_none()) {
            reader.refuse("tracing.headers", "expected name=value, several separated by commas");
        }
        let sample = reader.take("tracing.sample", 1.0);
        if !(0.0..=1.0).contains(&sample) {
            reader.refuse("tracing.sample", "must be between 0 and 1");
        }
        Self {
            endpoint: endpoint.map(|endpoint| endpoint.0),
            headers: secret,
            sample,
            propagate: reader.take("tracing.propagate", Propagate::Auto),
            service_name: reader.take("tracing.service_name", "perpetuo".to_owned()),
            resource_attributes: reader.take("tracing.resource_attributes", Vec::new()),
        }
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing")
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("headers", &super::sections::hidden(self.headers.as_ref()))
            .field("sample", &self.sample)
            .field("propagate", &self.propagate)
            .field("service_name", &self.service_name)
            .field("resource_attributes", &self.resource_attributes)
            .finish()
    }
}

impl PartialEq for Tracing {
    /// Whether an export goes on as it was; sampling and propagation are each request's own.
    fn eq(&self, other: &Self) -> bool {
        let same_headers = match (&self.headers, &other.headers) {
            (Some(one), Some(another)) => one.is(another),
            (one, another) => one.is_none() && another.is_none(),
        };
        self.endpoint == other.endpoint
            && same_headers
            && self.service_name == other.service_name
            && self.resource_attributes == other.resource_attributes
    }
}

/// Reads headers as OpenTelemetry's tools write them: `name=value`, several separated by commas, values with `%` escapes. None when
/// they are not in that form.
pub fn headers(secret: &Secret) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pairs = secret.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::try_from(name.trim()).ok()?, value))
        })
        .collect()
}

/// Whether providers are told which trace a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagate {
    /// When the client named a trace, or spans are exported.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Words for Propagate {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)]
    }
}

/// `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands behind it.
    pub value: String,
}

impl Setting for Pair {
    fn expected() -> String {
        "\"name=value\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        (!name.is_empty()).then_some(Self { name, value })
    }
}

/// The URL of a collector.
struct Collector(Url);

impl Setting for Collector {
    fn expected() -> String {
        "a URL such as \"http://127.0.0.1:4318\", without credentials, query and fragment".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let bare = url.username().is_empty() && url.password().is_none();
        let plain = url.query().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && bare && plain).then_some(Self(url))
    }
}
