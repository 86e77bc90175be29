//! Request bodies, bounded in size, time and depth.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::wire::depth;

/// JSON may nest this deep.
pub(in crate::gateway) const MAX_DEPTH: usize = 64;

/// Of a body that is too large, so many times the limit are read and thrown away.
const PATIENCE: usize = 8;

/// Reads a whole body of JSON.
pub(super) async fn read(
    request: Request<Incoming>,
    max: usize,
    within: Duration,
) -> Result<Bytes> {
    let expect = request.headers().get(EXPECT);
    let waits = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut body = request.into_body();
    let too_large = || {
        let message = format!("the body is larger than {max} bytes");
        Error::new(ErrorKind::TooLarge, message)
    };
    // Who waits to be told to send is told so by the first look at the body.
    if waits && body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let until = Instant::now() + within;
    let read = timeout_at(until, Limited::new(&mut body, max).collect()).await;
    let body = match read {
        Ok(Ok(body)) => owned(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            // Who still sends when the connection closes is told of a reset, and never reads why.
            let _ = timeout_at(until, discard(&mut body, max.saturating_mul(PATIENCE))).await;
            return Err(too_large());
        }
        Ok(Err(error)) => {
            // Wrongly framed, or its sender is gone and reads no answer.
            return Err(Error::invalid(
                "body",
                format!("the body broke off: {error}"),
            ));
        }
        Err(_) => {
            let seconds = within.as_secs();
            return Err(Error::invalid(
                "body",
                format!("the body did not arrive within {seconds} s"),
            ));
        }
    };
    check(&body)?;
    Ok(body)
}

/// A small body is copied out of the connection's buffer, which a long stream would keep alive otherwise.
fn owned(body: Bytes) -> Bytes {
    const SMALL: usize = 4096;
    if body.len() <= SMALL {
        Bytes::copy_from_slice(&body)
    } else {
        body
    }
}

async fn discard(body: &mut Incoming, most: usize) {
    let mut read = 0;
    while read <= most
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Refuses JSON that nests too deep, before anything recursive sees it.
pub(in crate::gateway) fn check(body: &[u8]) -> Result<()> {
    depth::check(body, MAX_DEPTH).map_err(|_| {
        Error::invalid(
            "body",
            format!("the JSON nests deeper than {MAX_DEPTH} levels"),
        )
    })
}
