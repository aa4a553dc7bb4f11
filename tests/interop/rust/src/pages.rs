//! The store's data plane, written from docs/STORE.md alone: pages ahead, a commit, a conflict, and all read back.

use crate::{check, Answer, Gateway, Outcome};

const PAGES: usize = 60;
const PAGE_BYTES: usize = 8_192;

/// MessagePack, as much of it as the data plane needs.
enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(u32),
    Flag(bool),
    Nil,
}

fn pack(fields: &[(&str, Value)]) -> Vec<u8> {
    let mut out = vec![0x80 | fields.len() as u8];
    for (name, value) in fields {
        text(&mut out, name);
        match value {
            Value::Text(value) => text(&mut out, value),
            Value::Bytes(value) => {
                out.push(0xC5);
                out.extend((value.len() as u16).to_be_bytes());
                out.extend(*value);
            }
            Value::Number(value) => {
                out.push(0xCE);
                out.extend(value.to_be_bytes());
            }
            Value::Flag(value) => out.push(0xC2 + u8::from(*value)),
            Value::Nil => out.push(0xC0),
        }
    }
    out
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend([0xD9, value.len() as u8]);
    out.extend(value.as_bytes());
}

/// The byte string that is the value of a field of a packed map, which holds no other of that name.
fn bytes_of<'a>(map: &'a [u8], name: &str) -> Outcome<&'a [u8]> {
    let wanted = name.as_bytes();
    let at = map.windows(wanted.len()).position(|part| part == wanted).ok_or(format!("no {name}"))? + wanted.len();
    let (head, size) = match map[at] {
        0xC4 => (2, usize::from(map[at + 1])),
        0xC5 => (3, usize::from(u16::from_be_bytes([map[at + 1], map[at + 2]]))),
        other => return Err(format!("{name} is a {other:#x}")),
    };
    Ok(&map[at + head..at + head + size])
}

fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat()).collect()
}

fn unframed(mut body: &[u8]) -> Outcome<Vec<&[u8]>> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        check(body.len() >= 4, "a frame is cut short")?;
        let size = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
        check(body.len() >= 4 + size, "a frame is cut short")?;
        frames.push(&body[4..4 + size]);
        body = &body[4 + size..];
    }
    Ok(frames)
}

fn page(index: usize) -> Vec<u8> {
    (0..PAGE_BYTES).map(|at| ((at * 7 + index * 13) % 251) as u8).collect()
}

async fn post(gateway: &Gateway, namespace: &str, path: &str, frames: &[Vec<u8>]) -> Outcome<Answer> {
    gateway.ask("POST", path, &[("x-namespace-key", namespace)], framed(frames)).await
}

async fn commit(gateway: &Gateway, namespace: &str, version: &str, hashes: &[Vec<u8>], key: u8) -> Outcome<Answer> {
    let mut frames = vec![
        pack(&[
            ("idempotency_key", Value::Bytes(&[key; 16])),
            ("allow_skip_idempotency_check", Value::Flag(true)),
            ("num_namespaces", Value::Number(1)),
            ("lock_owner", Value::Nil),
        ]),
        pack(&[
            ("version", Value::Text(version)),
            ("ns_key", Value::Text(namespace)),
            ("ns_key_hashproof", Value::Nil),
            ("metadata", Value::Nil),
            ("num_pages", Value::Number(hashes.len() as u32)),
            ("read_set", Value::Nil),
        ]),
    ];
    for (index, hash) in hashes.iter().enumerate() {
        frames.push(pack(&[
            ("page_index", Value::Number(index as u32)),
            ("hash", Value::Bytes(hash)),
            ("data", Value::Nil),
        ]));
    }
    post(gateway, namespace, "/batch/commit", &frames).await
}

pub async fn all(gateway: &Gateway, namespace: &str) -> Outcome<()> {
    let stat = gateway.ask("GET", "/stat", &[("x-namespace-key", namespace)], Vec::new()).await?.is(200, "/stat")?;
    let stat = String::from_utf8_lossy(&stat.body).to_string();
    let version = stat.split("\"version\"").nth(1).and_then(|rest| rest.split('"').nth(1)).ok_or("no version")?;
    let mut ahead: Vec<Vec<u8>> =
        (0..PAGES).map(|at| pack(&[("data", Value::Bytes(&page(at))), ("delta_base", Value::Nil)])).collect();
    ahead.push(Vec::new());
    let written = post(gateway, namespace, "/batch/write", &ahead).await?.is(200, "/batch/write")?;
    let mut hashes = Vec::new();
    for frame in unframed(&written.body)? {
        hashes.push(bytes_of(frame, "hash")?.to_vec());
    }
    check(hashes.len() == PAGES + 1 && hashes[PAGES].is_empty(), "not every page was written ahead")?;
    hashes.truncate(PAGES);
    let done = commit(gateway, namespace, version, &hashes, 1).await?.is(200, "/batch/commit")?;
    let committed = done.header("x-committed-version");
    commit(gateway, namespace, version, &hashes, 2).await?.is(409, "a commit on an old version")?;
    let reads: Vec<Vec<u8>> = (0..PAGES)
        .map(|at| {
            pack(&[
                ("page_index", Value::Number(at as u32)),
                ("version", Value::Text(&committed)),
                ("hash", Value::Nil),
                ("accept_zstd", Value::Flag(false)),
            ])
        })
        .collect();
    let read = post(gateway, namespace, "/batch/read", &reads).await?.is(200, "/batch/read")?;
    let answers = unframed(&read.body)?;
    check(answers.len() == PAGES, "not every page was read")?;
    for (at, frame) in answers.iter().enumerate() {
        check(bytes_of(frame, "data")? == page(at), format!("page {at} is not as it was written"))?;
    }
    Ok(())
}
