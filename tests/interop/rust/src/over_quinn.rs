//! A session on web-transport-quinn.

use bytes::Bytes;
use url::Url;
use web_transport_quinn::ClientBuilder;

pub use web_transport_quinn::{RecvStream, SendStream};

pub struct Session(web_transport_quinn::Session);

impl Session {
    /// `hash`: of the gateway's certificate, 64 hex digits.
    pub async fn open(url: &str, hash: &str) -> Session {
        let digits = |at: usize| u8::from_str_radix(&hash[at..at + 2], 16).expect("hex digits");
        let digest = (0..hash.len()).step_by(2).map(digits).collect();
        let client = ClientBuilder::new().with_server_certificate_hashes(vec![digest]).expect("a client");
        Session(client.connect(Url::parse(url).expect("a URL")).await.expect("the session is opened"))
    }

    /// None once the session is over.
    pub async fn receive_datagram(&self) -> Option<Vec<u8>> {
        self.0.read_datagram().await.ok().map(|datagram| datagram.to_vec())
    }

    pub async fn accept_stream(&self) -> Option<RecvStream> {
        self.0.accept_uni().await.ok()
    }

    pub fn send_datagram(&self, message: &[u8]) {
        self.0.send_datagram(Bytes::copy_from_slice(message)).expect("a datagram is taken");
    }

    pub async fn open_stream(&self) -> SendStream {
        self.0.open_uni().await.expect("a stream is allowed")
    }

    pub async fn close(&self) {
        self.0.close(0, b"");
        self.0.closed().await;
    }
}

/// Answers once the peer has all of it.
pub async fn finish(mut stream: SendStream) {
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}
