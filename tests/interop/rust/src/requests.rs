//! HTTP/3 requests by h3 over quinn, written from the docs alone: frames are posted and followed both ways, read back, entities
//! kept, pages of the store written and read, and a refusal is no end of the connection.
//! Usage: requests URL CA_FILE WORLD NAMESPACE FRAME_BYTES FRAMES. Says `{"error": ""}` where all was as the docs say.

#[allow(dead_code)] // what only sessions need
mod frames;
mod pages;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Request};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::{pem::PemObject, CertificateDer};

use frames::{control_type, decode, encode, messages, prefixed, value, Record, TYPE_CONTROL, VALUE_BYTES};

const PATIENCE: Duration = Duration::from_secs(300);
const FRAMES_TYPE: &str = "application/vnd.mvgateway.frames";
const ENTITY_BYTES: usize = 300_000;

type Outcome<T> = Result<T, String>;
type Stream = RequestStream<BidiStream<Bytes>, Bytes>;

fn told(error: impl Display) -> String {
    error.to_string()
}

fn check(holds: bool, what: impl Into<String>) -> Outcome<()> {
    holds.then_some(()).ok_or(what.into())
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is(self, status: u16, what: &str) -> Outcome<Answer> {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]).to_string();
        check(self.status == status, format!("{what}: {} for {status}: {text}", self.status))?;
        check(self.headers.contains_key("date"), format!("{what}: no Date"))?;
        Ok(self)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).to_string()
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map_or(String::new(), |v| String::from_utf8_lossy(v.as_bytes()).to_string())
    }
}

/// One connection to the gateway.
#[derive(Clone)]
pub struct Gateway {
    requests: SendRequest<OpenStreams, Bytes>,
    url: String,
}

impl Gateway {
    async fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Outcome<Stream> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(told)?;
        let mut stream = self.requests.clone().send_request(request).await.map_err(told)?;
        if !body.is_empty() {
            stream.send_data(body).await.map_err(told)?;
        }
        stream.finish().await.map_err(told)?;
        Ok(stream)
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Outcome<Answer> {
        let mut stream = self.begin(method, path, headers, body.into()).await?;
        let head = stream.recv_response().await.map_err(told)?;
        let mut body = Vec::new();
        while let Some(mut piece) = stream.recv_data().await.map_err(told)? {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        Ok(Answer { status: head.status().as_u16(), headers: head.headers().clone(), body })
    }
}

async fn connect(url: &str, ca: &str) -> Outcome<Gateway> {
    let address: SocketAddr = url.trim_start_matches("https://").parse().map_err(told)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(told)? {
        roots.add(certificate.map_err(told)?).map_err(told)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(told)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut endpoint = quinn::Endpoint::client("0.0.0.0:0".parse().map_err(told)?).map_err(told)?;
    let quic = QuicClientConfig::try_from(tls).map_err(told)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    let connection = endpoint.connect(address, &address.ip().to_string()).map_err(told)?.await.map_err(told)?;
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.map_err(told)?;
    tokio::spawn(async move { driver.wait_idle().await });
    Ok(Gateway { requests, url: url.to_string() })
}

/// The newest tick of each key. Answers whether all are there, and as of `last`.
fn take(state: &mut HashMap<u32, u32>, records: Vec<Record>, count: u32, last: u32) -> Outcome<bool> {
    for record in records {
        let data = record.data.ok_or(format!("key {} is removed", record.key))?;
        check(data == value(record.key, record.tick), format!("key {} is not as it was sent", record.key))?;
        let newest = state.entry(record.key).or_default();
        *newest = record.tick.max(*newest);
    }
    Ok(state.len() == count as usize && state.values().all(|tick| *tick == last))
}

fn as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_string()
}

/// The value of a member of an object, as it stands there up to its end, which `until` is.
fn member<'a>(json: &'a str, name: &str, until: &str) -> Outcome<&'a str> {
    let after = json.split(&format!("\"{name}\":")).nth(1).ok_or(format!("no {name} in {json:.200}"))?;
    Ok(after.trim_start().split(until).next().unwrap_or(""))
}

fn from_base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        held = held << 6 | digits.iter().position(|digit| *digit == byte).unwrap_or(0) as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    out
}

/// The records of a `frame` event.
fn of_event(json: &str) -> Outcome<Vec<Record>> {
    let tick = member(json, "tick", ",")?.trim_end_matches('}').parse().map_err(told)?;
    let mut records = Vec::new();
    for pair in member(json, "records", "}")?.trim_start_matches('{').split(',').filter(|pair| !pair.is_empty()) {
        let (key, data) = pair.split_once(':').ok_or("no value of a key")?;
        let key = key.trim().trim_matches('"').parse().map_err(told)?;
        records.push(Record { key, tick, data: Some(from_base64(data.trim().trim_matches('"'))) });
    }
    Ok(records)
}

/// Follow the world until everything is as of `last`, by the frame stream or as server-sent events; then leave.
async fn follow(mut stream: Stream, is_events: bool, count: u32, last: u32) -> Outcome<()> {
    let head = stream.recv_response().await.map_err(told)?;
    check(head.status() == 200, format!("live: {}", head.status()))?;
    let (mut held, mut state, mut is_welcome) = (Vec::new(), HashMap::new(), false);
    while let Some(mut piece) = stream.recv_data().await.map_err(told)? {
        held.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        let mut found = Vec::new();
        if is_events {
            while let Some(end) = held.windows(2).position(|pair| pair == b"\n\n") {
                let event = as_text(&held.drain(..end + 2).collect::<Vec<u8>>());
                let data = event.lines().filter_map(|line| line.strip_prefix("data:")).collect::<String>();
                is_welcome |= event.contains("event: welcome");
                if event.contains("event: frame") {
                    found.push(of_event(&data)?);
                }
            }
        } else {
            for message in messages(&mut held)? {
                if message[0] == TYPE_CONTROL {
                    is_welcome |= control_type(&message) == "welcome";
                } else {
                    found.push(decode(&message)?);
                }
            }
        }
        for records in found {
            if take(&mut state, records, count, last)? {
                return check(is_welcome, "live: no welcome"); // and quinn asks to stop what is dropped unread
            }
        }
    }
    Err("live: it ended before the last frame".to_string())
}

/// Frames by POST, followed both ways, and read back.
async fn frames(gateway: &Gateway, world: &str, count: u32, last: u32) -> Outcome<()> {
    let path = format!("/v1/worlds/{world}");
    gateway.ask("PUT", &path, &[], Vec::new()).await?.is(201, "the world is made")?;
    let live = format!("{path}/live?role=subscribe");
    let mut followers = Vec::new();
    for (is_events, accept) in [(false, FRAMES_TYPE), (true, "text/event-stream")] {
        let stream = gateway.begin("GET", &live, &[("accept", accept)], Bytes::new()).await?;
        followers.push(tokio::spawn(follow(stream, is_events, count, last)));
    }
    let (post, head) = (format!("{path}/frames"), [("content-type", FRAMES_TYPE)]);
    let mut epochs = Vec::new();
    for tick in 1..last {
        let answer = gateway.ask("POST", &post, &head, prefixed(&encode(tick, count))).await?.is(202, "frames")?;
        epochs.push(member(&answer.text(), "epoch", ",")?.to_string());
    }
    let durable = format!("{post}?durable=1");
    gateway.ask("POST", &durable, &head, prefixed(&encode(last, count))).await?.is(200, "durable")?;
    check(epochs.iter().all(|epoch| *epoch == epochs[0]), "successive POSTs do not share an epoch")?;
    for follower in followers {
        follower.await.map_err(told)??;
    }
    let state = gateway.ask("GET", &format!("{post}/last"), &[], Vec::new()).await?.is(200, "the last state")?;
    check(state.header("x-tick") == last.to_string(), "the last state is of another tick")?;
    let mut kept = HashMap::new();
    let mut is_whole = false;
    for message in messages(&mut state.body.clone())?.iter().filter(|message| message[0] != TYPE_CONTROL) {
        is_whole = take(&mut kept, decode(message)?, count, last)?;
    }
    check(is_whole, "the last state is not the last frame")?;
    let recorded = format!("{post}?from=1&to={last}");
    let rows = gateway.ask("GET", &recorded, &[], Vec::new()).await?.is(200, "what was recorded")?;
    let mut newest = HashMap::new();
    for message in messages(&mut rows.body.clone())?.iter().filter(|message| message[0] != TYPE_CONTROL) {
        is_whole = take(&mut newest, decode(message)?, count, last)?;
    }
    check(is_whole, "what was recorded does not end with the last frame")
}

/// One large entity: made, made twice, changed by two, read, removed.
async fn entities(gateway: &Gateway, world: &str) -> Outcome<()> {
    let path = format!("/v1/worlds/{world}/entities/chest:7");
    let state: Vec<u8> = (0..ENTITY_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let kind = ("content-type", "application/octet-stream");
    let head = [kind, ("x-entity-tags", "chest,oak")];
    let put = gateway.ask("PUT", &path, &head, state.clone()).await?.is(201, "an entity")?;
    let revision = put.header("etag");
    gateway.ask("PUT", &path, &[kind, ("if-none-match", "*")], state.clone()).await?.is(412, "made twice")?;
    gateway.ask("PUT", &path, &[kind, ("if-match", &revision)], state.clone()).await?.is(200, "replaced")?;
    gateway.ask("PUT", &path, &[kind, ("if-match", &revision)], state.clone()).await?.is(412, "too late")?;
    let got = gateway.ask("GET", &path, &[], Vec::new()).await?.is(200, "the entity")?;
    check(got.body == state, "the entity is not as it was put")?;
    check(got.header("x-entity-tags") == "chest,oak", "the tags are not as they were put")?;
    let seen = [("if-none-match", got.header("etag"))];
    let seen: Vec<(&str, &str)> = seen.iter().map(|(name, value)| (*name, value.as_str())).collect();
    check(gateway.ask("GET", &path, &seen, Vec::new()).await?.status == 304, "it is sent again")?;
    let two = br#"{"operations": [{"op": "put", "id": "door", "kind": "json", "state": {"open": true}}, {"op": "delete", "id": "chest:7"}]}"#;
    let batch = format!("/v1/worlds/{world}/entities:batch");
    gateway.ask("POST", &batch, &[("content-type", "application/json")], two.to_vec()).await?.is(200, "a batch")?;
    let gone = gateway.ask("GET", &path, &[], Vec::new()).await?.is(404, "a removed entity")?;
    check(gone.header("content-type").starts_with("application/problem+json"), "no problem document")
}

/// What is refused is refused alone.
async fn refusals(gateway: &Gateway, world: &str) -> Outcome<()> {
    let path = format!("/v1/worlds/{world}");
    gateway.ask("GET", "/v1/worlds/nowhere/frames/last", &[], Vec::new()).await?.is(404, "no such world")?;
    gateway.ask("GET", &format!("{path}?colour=red"), &[], Vec::new()).await?.is(400, "an unknown key")?;
    let large = "x".repeat(60_000);
    let refused = match gateway.ask("GET", &path, &[("x-large", &large)], Vec::new()).await {
        Ok(answer) => answer.status == 431,
        Err(error) => error.to_lowercase().contains("header") || error.contains("field"), // the announced bound, kept to
    };
    check(refused, "a field section over the announced bound is taken")?;
    gateway.ask("GET", &path, &[], Vec::new()).await?.is(200, "after refusals")?;
    Ok(())
}

async fn all(words: &[String]) -> Outcome<()> {
    let [url, ca, world, namespace, bytes, last] = words else { return Err("six words are needed".to_string()) };
    let count = (bytes.parse::<usize>().map_err(told)? / VALUE_BYTES).max(1) as u32;
    let gateway = connect(url, ca).await?;
    frames(&gateway, world, count, last.parse().map_err(told)?).await?;
    entities(&gateway, world).await?;
    refusals(&gateway, world).await?;
    pages::all(&gateway, namespace).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = tokio::time::timeout(PATIENCE, all(&words)).await.unwrap_or(Err("no end in sight".to_string()));
    println!("{{\"error\": {:?}}}", outcome.err().unwrap_or_default());
}
