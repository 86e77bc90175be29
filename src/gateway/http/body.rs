//! Request bodies, bounded in size, time and depth.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::wire::depth;

/// JSON may nest this deep.
pub(in crate::gateway) const MAX_DEPTH: usize = 64;

/// Reads a whole body of JSON.
pub(super) async fn read(body: Incoming, max: usize, within: Duration) -> Result<Bytes> {
    let read = timeout(within, Limited::new(body, max).collect()).await;
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Error::invalid(
                "body",
                format!("the body is larger than {max} bytes"),
            ));
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

/// Refuses JSON that nests too deep, before anything recursive sees it.
pub(in crate::gateway) fn check(body: &[u8]) -> Result<()> {
    depth::check(body, MAX_DEPTH).map_err(|_| {
        Error::invalid(
            "body",
            format!("the JSON nests deeper than {MAX_DEPTH} levels"),
        )
    })
}
