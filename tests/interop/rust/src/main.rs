//! A reader and a publisher on the library that the feature names. Usage: interop read|publish URL CERTIFICATE_SHA256 FRAME_BYTES FRAMES INTERVAL_MS
//! With an interval of 0 a publisher sends one for each line that it is told, and a reader says `whole TICK` of each.

mod frames;
#[cfg(feature = "web-transport-quinn")]
#[path = "over_quinn.rs"]
mod session;
#[cfg(feature = "wtransport")]
#[path = "over_wtransport.rs"]
mod session;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frames::{control_type, decode, encode, messages, prefixed, value, TYPE_CONTROL, VALUE_BYTES};
use session::{finish, RecvStream, Session};
use tokio::sync::mpsc::{unbounded_channel, UnboundedSender};

const PATIENCE: Duration = Duration::from_secs(300);
const SETTLING: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Reader {
    state: HashMap<u32, u32>,
    whole: HashMap<u32, u32>,
    count: u32,
    last: u32,
    says_whole: bool,
    messages: u32,
    datagrams: u32,
    begun: u32,
    ended: u32,
    reset: u32,
    complete: u32,
    controls: HashSet<String>,
}

impl Reader {
    /// One message. Answers whether everything is as of the last tick.
    fn take(&mut self, message: &[u8]) -> Result<bool, String> {
        if message.first() == Some(&TYPE_CONTROL) {
            self.controls.insert(control_type(message));
            return Ok(false);
        }
        let records = decode(message)?;
        self.messages += 1;
        let complete = self.complete;
        for record in records {
            let data = record.data.ok_or(format!("key {} is removed", record.key))?;
            if data != value(record.key, record.tick) {
                return Err(format!("key {} of tick {} is not as it was sent", record.key, record.tick));
            }
            if self.state.get(&record.key).is_some_and(|before| *before >= record.tick) {
                continue;
            }
            self.state.insert(record.key, record.tick);
            let parts = self.whole.entry(record.tick).or_default();
            *parts += 1;
            self.complete += u32::from(*parts == self.count);
        }
        if self.state.len() != self.count as usize {
            return Ok(false);
        }
        let oldest = self.state.values().copied().min().unwrap_or(0);
        if self.says_whole && self.complete > complete && self.state.values().all(|tick| *tick == oldest) {
            say(&format!("whole {oldest}"));
        }
        Ok(oldest == self.last)
    }

    fn as_json(&self, error: &str) -> String {
        format!(
            "{{\"messages\": {}, \"datagrams\": {}, \"streams_begun\": {}, \"streams_ended\": {}, \"streams_reset\": {}, \
             \"complete\": {}, \"welcome\": {}, \"resync\": {}, \"error\": {error:?}}}",
            self.messages,
            self.datagrams,
            self.begun,
            self.ended,
            self.reset,
            self.complete,
            self.controls.contains("welcome"),
            self.controls.contains("resync"),
        )
    }
}

type Shared = Arc<Mutex<Reader>>;
type Told = UnboundedSender<Result<(), String>>;

fn tell(told: &Told, taken: Result<bool, String>) {
    match taken {
        Ok(true) => drop(told.send(Ok(()))),
        Ok(false) => {}
        Err(error) => drop(told.send(Err(error))),
    }
}

/// A stream to its end. The first one is the session's control messages, and is not counted.
async fn follow(mut stream: RecvStream, reader: Shared, told: Told, is_counted: bool) {
    let mut held = Vec::new();
    let mut piece = vec![0; 65_536];
    loop {
        match stream.read(&mut piece).await {
            Ok(Some(size)) => held.extend(&piece[..size]),
            Ok(None) => {
                reader.lock().unwrap().ended += u32::from(is_counted);
                return;
            }
            Err(_) => {
                reader.lock().unwrap().reset += u32::from(is_counted);
                return;
            }
        }
        match messages(&mut held) {
            Ok(whole) => {
                for message in whole {
                    tell(&told, reader.lock().unwrap().take(&message));
                }
            }
            Err(error) => tell(&told, Err(error)),
        }
    }
}

async fn read(session: Arc<Session>, count: u32, last: u32, says_whole: bool) -> String {
    let reader: Shared = Arc::new(Mutex::new(Reader { count, last, says_whole, ..Default::default() }));
    let (told, mut done) = unbounded_channel();
    let (of_datagrams, with, to) = (reader.clone(), session.clone(), told.clone());
    tokio::spawn(async move {
        while let Some(datagram) = with.receive_datagram().await {
            let mut reader = of_datagrams.lock().unwrap();
            reader.datagrams += 1;
            tell(&to, reader.take(&datagram));
        }
    });
    let of_streams = reader.clone();
    tokio::spawn(async move {
        let mut is_counted = false;
        while let Some(stream) = session.accept_stream().await {
            of_streams.lock().unwrap().begun += u32::from(is_counted);
            tokio::spawn(follow(stream, of_streams.clone(), told.clone(), is_counted));
            is_counted = true;
        }
    });
    say("ready");
    let problem = match tokio::time::timeout(PATIENCE, done.recv()).await {
        Ok(Some(Ok(()))) => settled(&reader).await,
        Ok(Some(Err(error))) => error,
        _ => "the last frame never was whole".to_string(),
    };
    let reader = reader.lock().unwrap();
    reader.as_json(&problem)
}

/// Wait until every stream that began has ended.
async fn settled(reader: &Shared) -> String {
    let settling = async {
        loop {
            {
                let reader = reader.lock().unwrap();
                if reader.begun == reader.ended + reader.reset {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(SETTLING, settling).await {
        Ok(()) => String::new(),
        Err(_) => "a stream neither ended nor was reset".to_string(),
    }
}

/// A keyframe each interval, by datagram where it is small and by a stream of its own where not.
async fn publish(session: Arc<Session>, count: u32, last: u32, interval: Duration) {
    let quiet = session.clone();
    tokio::spawn(async move { while quiet.receive_datagram().await.is_some() {} });
    let heard = session.clone();
    tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Some(stream) = heard.accept_stream().await {
            streams.push(stream);
        }
    });
    say("ready");
    if !interval.is_zero() {
        hear_line().await;
    }
    for tick in 1..=last {
        if interval.is_zero() {
            hear_line().await;
        }
        let message = encode(tick, count);
        if message.len() <= 1_100 && tick < last {
            session.send_datagram(&message);
        } else {
            let mut stream = session.open_stream().await;
            stream.write_all(&prefixed(&message)).await.expect("it is written to");
            tokio::spawn(finish(stream));
        }
        tokio::time::sleep(interval).await;
    }
    hear_line().await;
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

async fn hear_line() {
    tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new())).await.unwrap().unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, url, hash, bytes, last, interval_ms] = &words[..] else { panic!("six words are needed") };
    let session = Arc::new(Session::open(url, hash).await);
    let count = (bytes.parse::<usize>().unwrap() / VALUE_BYTES).max(1) as u32;
    let last = last.parse().unwrap();
    let interval = Duration::from_millis(interval_ms.parse().unwrap());
    if role == "publish" {
        publish(session.clone(), count, last, interval).await;
    } else {
        println!("{}", read(session.clone(), count, last, interval.is_zero()).await);
    }
    session.close().await;
}
