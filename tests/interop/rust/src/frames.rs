//! The frame protocol, version 1, written from docs/FRAMES.md alone.

pub const HEADER_BYTES: usize = 24;
pub const VALUE_BYTES: usize = 1_000;
const TYPE_FRAME: u8 = 1;
pub const TYPE_CONTROL: u8 = 16;
const FLAG_KEYFRAME: u8 = 1;
const FLAG_ZSTD: u8 = 2;
const FLAG_TICKS: u8 = 8;
const REMOVED: u32 = 0xFFFF_FFFF;
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A key's value at a tick; no data: it is removed.
pub struct Record {
    pub key: u32,
    pub tick: u32,
    pub data: Option<Vec<u8>>,
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    if rest.len() < count {
        return Err(format!("cut short: {} bytes where {count} are due", rest.len()));
    }
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    Ok(head)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The records of a frame message.
pub fn decode(message: &[u8]) -> Result<Vec<Record>, String> {
    if message.len() < HEADER_BYTES || message[0] != TYPE_FRAME {
        return Err("not a frame".into());
    }
    let flags = message[1];
    if flags & FLAG_ZSTD != 0 {
        return Err("compressed, though nobody asked for that".into());
    }
    let stride = number(&message[6..8]) as usize;
    let mut rest = &message[HEADER_BYTES..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let tick = match flags & FLAG_TICKS {
            0 => number(&message[12..16]),
            _ => number(take(&mut rest, 4)?),
        };
        if stride > 0 {
            let data = take(&mut rest, stride)?.to_vec();
            records.push(Record { key: number(&data[..4]), tick, data: Some(data) });
            continue;
        }
        let key = number(take(&mut rest, 4)?);
        let data = match number(take(&mut rest, 4)?) {
            REMOVED => None,
            size => Some(take(&mut rest, size as usize)?.to_vec()),
        };
        records.push(Record { key, tick, data });
    }
    Ok(records)
}

/// A keyframe of so many records at a tick, in one message; epoch 0: the session's.
pub fn encode(tick: u32, count: u32) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES];
    message[0] = TYPE_FRAME;
    message[1] = FLAG_KEYFRAME;
    message[4] = 1;
    message[12..16].copy_from_slice(&tick.to_le_bytes());
    for key in 1..=count {
        message.extend(key.to_le_bytes());
        message.extend((VALUE_BYTES as u32).to_le_bytes());
        message.extend(value(key, tick));
    }
    message
}

/// What a key holds at a tick: every byte follows from the two.
pub fn value(key: u32, tick: u32) -> Vec<u8> {
    let mut x = u64::from(key) << 32 | u64::from(tick) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

/// A message's length before it, as streams want it.
pub fn prefixed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

/// The whole messages at the front of a stream's bytes, which are taken off it.
pub fn messages(held: &mut Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    let mut at = 0;
    while held.len() - at >= 4 {
        let size = number(&held[at..at + 4]) as usize;
        if size == 0 || size > MESSAGE_BYTES_MAX {
            return Err(format!("a message of {size} bytes"));
        }
        if held.len() - at - 4 < size {
            break;
        }
        found.push(held[at + 4..at + 4 + size].to_vec());
        at += 4 + size;
    }
    held.drain(..at);
    Ok(found)
}

/// The "type" of a control message, whose JSON is after its first byte.
pub fn control_type(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[1..]).replace([' ', '\n'], "");
    let after = text.split("\"type\":\"").nth(1).unwrap_or("");
    after.split('"').next().unwrap_or("").to_string()
}
