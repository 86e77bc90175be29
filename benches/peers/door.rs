//! Small requests to the doors that are not measured.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Status and body; `None` when there was no answer within 10 s.
pub async fn send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    body: String,
) -> Option<(u16, Bytes)> {
    let exchange = async {
        let tcp = TcpStream::connect(addr).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, addr.to_string());
        let request = request.body(Full::<Bytes>::from(body)).ok()?;
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        connection.abort();
        Some((status, body))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange)
        .await
        .ok()?
}

pub async fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let (status, body) = send(addr, Method::GET, path, String::new()).await?;
    (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
}

pub async fn get_json(addr: SocketAddr, path: &str) -> Option<Value> {
    serde_json::from_str(&get(addr, path).await?).ok()
}
