//! Files by HTTPS, from any byte on.

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, LOCATION, RANGE, USER_AGENT,
};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use quorate::models::Download;
use quorate::models::fetch::Body;
use tokio::time::timeout;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a server may send us elsewhere.
const REDIRECTS: usize = 8;

/// A client for files.
pub struct Https(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Https {
    /// A client that trusts whom the system trusts, or Mozilla's list where the system has none.
    pub fn new() -> Self {
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .unwrap_or_else(|_| HttpsConnectorBuilder::new().with_webpki_roots());
        let connector = tls.https_or_http().enable_http1().build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// The response at the end of all redirects.
    async fn follow(&self, url: &str, offset: u64) -> Result<Response<Incoming>, String> {
        let mut url: Uri = url
            .parse()
            .map_err(|error| format!("'{url}' is no URL: {error}"))?;
        for _ in 0..=REDIRECTS {
            let mut request = Request::get(&url)
                .header(USER_AGENT, concat!("quorate/", env!("CARGO_PKG_VERSION")));
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            let request = request
                .body(Empty::new())
                .map_err(|error| error.to_string())?;
            let response = timeout(SILENCE, self.0.request(request))
                .await
                .map_err(|_| silent())?;
            let response = response.map_err(|error| causes(&error))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            url = redirected(&url, response.headers())?;
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }
}

impl Download for Https {
    fn get<'a>(&'a self, url: &'a str, offset: u64) -> BoxFuture<'a, Result<Body, String>> {
        Box::pin(async move {
            let response = self.follow(url, offset).await?;
            let (total, skip) = extent(response.status(), response.headers(), offset)?;
            let bytes = stream::try_unfold(
                (response.into_body(), skip),
                |(mut body, mut skip)| async move {
                    loop {
                        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| silent())?;
                        let Some(frame) = frame else { return Ok(None) };
                        let Ok(mut bytes) = frame.map_err(|error| causes(&error))?.into_data()
                        else {
                            continue;
                        };
                        let skipped =
                            usize::try_from(skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                        bytes.advance(skipped);
                        skip -= skipped as u64;
                        if !bytes.is_empty() {
                            return Ok(Some((bytes, (body, skip))));
                        }
                    }
                },
            );
            Ok((total, bytes.boxed()))
        })
    }
}

/// The whole file's length, if the server tells, and how many bytes to skip since it did not begin where
/// it was asked to.
fn extent(
    status: StatusCode,
    headers: &HeaderMap,
    offset: u64,
) -> Result<(Option<u64>, u64), String> {
    match status {
        StatusCode::OK => {
            let length = text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
            Ok((length, offset))
        }
        StatusCode::PARTIAL_CONTENT => {
            let range = text(headers, CONTENT_RANGE).unwrap_or_default();
            let (span, total) = range
                .trim_start_matches("bytes ")
                .split_once('/')
                .unwrap_or_default();
            let start = span
                .split_once('-')
                .and_then(|(start, _)| start.parse::<u64>().ok());
            let start = start.filter(|start| *start <= offset);
            let start = start
                .ok_or_else(|| format!("asked from byte {offset}, the server sent '{range}'"))?;
            Ok((total.parse().ok(), offset - start))
        }
        status => Err(format!("the server answered {status}")),
    }
}

/// Where a redirect leads; never away from HTTPS.
fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, String> {
    let location = text(headers, LOCATION).ok_or("a redirect leads nowhere")?;
    let wrong = |error: http::Error| format!("a redirect leads to '{location}': {error}");
    let uri = if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(
            location
                .parse()
                .map_err(|error| wrong(http::Error::from(error)))?,
        );
        Uri::from_parts(parts).map_err(|error| wrong(error.into()))?
    } else {
        location
            .parse()
            .map_err(|error| wrong(http::Error::from(error)))?
    };
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(format!("a redirect leads to '{uri}', which is not https"));
    }
    Ok(uri)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn silent() -> String {
    format!("the server was silent for {} s", SILENCE.as_secs())
}

/// An error with what caused it, since hyper's own says only that there is one.
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |cause| cause.source());
    chain.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    /// What a client that has `offset` bytes gets from a server that answers with `response`.
    async fn got(response: &'static str, offset: u64) -> Result<(Option<u64>, Vec<u8>), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let server = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            let read = peer.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0);
            peer.write_all(response.as_bytes()).await.unwrap();
        };
        let https = Https::new();
        let client = async {
            let (total, bytes) = https.get(&url, offset).await?;
            let bytes: Vec<Bytes> = bytes.try_collect().await?;
            Ok((total, bytes.concat()))
        };
        tokio::join!(client, server).0
    }

    #[tokio::test]
    async fn a_file_comes_from_the_byte_that_is_missing_whatever_the_server_can() {
        let resumed = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 4-9/10\r\n\
                       content-length: 6\r\n\r\n456789";
        assert_eq!(got(resumed, 4).await, Ok((Some(10), b"456789".to_vec())));
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
        assert_eq!(got(whole, 4).await, Ok((Some(10), b"456789".to_vec())));
        assert_eq!(got(whole, 0).await, Ok((Some(10), b"0123456789".to_vec())));
    }

    #[tokio::test]
    async fn what_is_not_the_file_is_an_error() {
        let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert!(got(missing, 0).await.unwrap_err().contains("404"));
        let elsewhere = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 7-9/10\r\n\
                         content-length: 3\r\n\r\n789";
        assert!(
            got(elsewhere, 4)
                .await
                .unwrap_err()
                .contains("bytes 7-9/10")
        );
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123";
        assert!(got(cut, 0).await.is_err());
    }

    #[test]
    fn a_redirect_may_be_relative_and_never_leads_away_from_https() {
        let from: Uri = "https://a.test/x?y".parse().unwrap();
        let to = |location| {
            redirected(&from, &headers(&[(LOCATION, location)])).map(|to| to.to_string())
        };
        assert_eq!(to("/z?q=1").unwrap(), "https://a.test/z?q=1");
        assert_eq!(to("https://b.test/z").unwrap(), "https://b.test/z");
        for bad in ["http://a.test/z", "//b.test/z", "file:///z", "z"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        assert!(redirected(&from, &HeaderMap::new()).is_err());
    }
}
