//! A base URL, taken apart once: scheme, host, port and path.

use url::Url;

use crate::error::{Error, Result};

/// Where a provider is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, the scheme's own when none was written.
    pub port: u16,
    /// The path, without a slash at its end; empty for the root.
    pub path: String,
}

impl Endpoint {
    /// Reads a base URL. Refused with a 400 on `base_url`: other schemes, credentials, query, fragment, no host.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid("base_url", format!("Invalid 'base_url': {why}."));
        let url = Url::parse(text).map_err(|cause| refuse(&cause.to_string()))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("the scheme must be https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("it must not hold credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it must not hold a query or a fragment"));
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) => name.to_owned(),
            Some(url::Host::Ipv4(address)) => address.to_string(),
            Some(url::Host::Ipv6(address)) => address.to_string(),
            None => return Err(refuse("it has no host")),
        };
        let port = url.port_or_known_default().ok_or_else(|| refuse("it has no port"))?;
        Ok(Self { tls, host, port, path: url.path().trim_end_matches('/').to_owned() })
    }

    /// A path under this endpoint.
    pub fn join(&self, path: &str) -> String {
        [&self.path, path].concat()
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        match (self.host.contains(':'), self.port == default) {
            (false, true) => self.host.clone(),
            (false, false) => format!("{}:{}", self.host, self.port),
            (true, true) => format!("[{}]", self.host),
            (true, false) => format!("[{}]:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        let endpoint = Endpoint::parse("https://api.groq.com/openai/v1/").unwrap();
        assert_eq!(endpoint.join("/chat/completions"), "/openai/v1/chat/completions");
        assert_eq!(endpoint.authority(), "api.groq.com");
        assert_eq!(Endpoint::parse("http://[::1]:8080").unwrap().authority(), "[::1]:8080");
    }

    #[test]
    fn what_could_smuggle_something_is_refused() {
        for bad in
            ["ftp://x/", "https://user:pw@x/", "https://x/?q=1", "https://x/#f", "not a url", "file:///etc/passwd"]
        {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
