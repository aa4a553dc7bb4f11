//! A session on wtransport.

use wtransport::tls::{Sha256Digest, Sha256DigestFmt};
use wtransport::{ClientConfig, Connection, Endpoint};

pub use wtransport::{RecvStream, SendStream};

pub struct Session {
    connection: Connection,
    endpoint: Endpoint<wtransport::endpoint::endpoint_side::Client>,
}

impl Session {
    /// `hash`: of the gateway's certificate, 64 hex digits.
    pub async fn open(url: &str, hash: &str) -> Session {
        let pairs: Vec<&str> = (0..hash.len()).step_by(2).map(|at| &hash[at..at + 2]).collect();
        let digest = Sha256Digest::from_str_fmt(&pairs.join(":"), Sha256DigestFmt::DottedHex).expect("64 hex digits");
        let config = ClientConfig::builder().with_bind_default().with_server_certificate_hashes([digest]).build();
        let endpoint = Endpoint::client(config).expect("a socket");
        let connection = endpoint.connect(url).await.expect("the session is opened");
        Session { connection, endpoint }
    }

    /// None once the session is over.
    pub async fn receive_datagram(&self) -> Option<Vec<u8>> {
        self.connection.receive_datagram().await.ok().map(|datagram| datagram.to_vec())
    }

    pub async fn accept_stream(&self) -> Option<RecvStream> {
        self.connection.accept_uni().await.ok()
    }

    pub fn send_datagram(&self, message: &[u8]) {
        self.connection.send_datagram(message).expect("a datagram is taken");
    }

    pub async fn open_stream(&self) -> SendStream {
        self.connection.open_uni().await.expect("a stream is allowed").await.expect("it opens")
    }

    pub async fn close(&self) {
        self.connection.close(0u32.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

/// Answers once the peer has all of it.
pub async fn finish(mut stream: SendStream) {
    let _ = stream.finish().await;
}
