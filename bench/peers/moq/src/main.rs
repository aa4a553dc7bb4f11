//! Publisher and readers of moq-relay, by its own crates. See bench/moq.py.
//!
//! `moq-bench publish URL FRAME_BYTES HZ GROUP_FRAMES`: frames for ever, each with the time in its first 8 bytes;
//! a group, which is a stream, has GROUP_FRAMES. `moq-bench read URL READERS SECONDS`: says `ready` once every
//! reader has had a frame, counts for so long, and prints one line of JSON.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Context};
use moq_net::{group, track};
use tokio::sync::mpsc;

const BROADCAST: &str = "anon/bench";
const TRACK: &str = "frames";

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn config() -> moq_tokio::connect::Config {
    let mut config = moq_tokio::connect::Config::default();
    config.tls.insecure = Some(true);
    config
}

async fn publish(url: url::Url, frame_bytes: usize, hz: f64, group_frames: u64) -> anyhow::Result<()> {
    let origin = moq_tokio::origin::spawn();
    let broadcast = origin.create_broadcast(BROADCAST).context("no broadcast")?;
    let track: track::Producer = broadcast.create_track(TRACK, None)?;
    broadcast.announce(Default::default()).context("not announced")?;
    let client = config().init(Default::default())?;
    let connection = client.with_publisher(&origin).connect(url);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / hz));
    let mut open: Option<group::Producer> = None;
    let mut frame = vec![0x5au8; frame_bytes];
    let mut sent = 0u64;
    println!("ready");
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            ended = connection.closed() => bail!("the relay left: {ended:?}"),
        }
        if sent % group_frames == 0 {
            if let Some(before) = open.take() {
                before.finish()?;
            }
            open = Some(track.append_group()?);
        }
        frame[..8].copy_from_slice(&now_ns().to_le_bytes());
        open.as_mut().unwrap().write_frame(moq_net::Timestamp::now(), bytes::Bytes::from(frame.clone()))?;
        sent += 1;
        if group_frames == 1 {
            open.take().unwrap().finish()?;
        }
    }
}

struct Seen {
    counting: bool,
    ages_us: Vec<u32>,
    frames: u64,
}

async fn read_group(mut group: group::Consumer, seen: Arc<Mutex<Seen>>, first: mpsc::UnboundedSender<()>) {
    while let Ok(Some(frame)) = group.read_frame().await {
        if frame.payload.len() < 8 {
            continue;
        }
        let sent = u64::from_le_bytes(frame.payload[..8].try_into().unwrap());
        let age = now_ns().saturating_sub(sent) / 1000;
        let _ = first.send(());
        let mut seen = seen.lock().unwrap();
        if seen.counting {
            seen.frames += 1;
            seen.ages_us.push(age as u32);
        }
    }
}

async fn reader(url: url::Url, seen: Arc<Mutex<Seen>>, joined: mpsc::UnboundedSender<f64>) -> anyhow::Result<()> {
    let began = Instant::now();
    let origin = moq_tokio::origin::spawn();
    let client = config().init(Default::default())?;
    let _connection = client.with_subscriber(origin.clone()).connect(url);
    let consumer = origin.consume();
    let mut announced = consumer.announced();
    let broadcast = loop {
        let update = announced.next().await.context("the relay left")?;
        if update.kind.is_active() {
            break consumer.request_broadcast(&update.prefix).await?;
        }
    };
    let mut track: track::Subscriber = broadcast.track(TRACK)?.subscribe(None).await?;
    let (first, mut firsts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        if firsts.recv().await.is_some() {
            let _ = joined.send(began.elapsed().as_secs_f64() * 1e3);
        }
        while firsts.recv().await.is_some() {}
    });
    while let Some(group) = track.recv_group().await? {
        tokio::spawn(read_group(group, seen.clone(), first.clone()));
    }
    Ok(())
}

fn of(sorted: &[u32], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |us| *us as f64 / 1e3)
}

async fn read(url: url::Url, readers: usize, seconds: f64) -> anyhow::Result<()> {
    let seen = Arc::new(Mutex::new(Seen { counting: false, ages_us: Vec::new(), frames: 0 }));
    let (joined, mut joins) = mpsc::unbounded_channel();
    for _ in 0..readers {
        let (url, seen, joined) = (url.clone(), seen.clone(), joined.clone());
        tokio::spawn(async move {
            if let Err(error) = reader(url, seen, joined).await {
                eprintln!("a reader ended: {error:#}");
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut times = Vec::new();
    while times.len() < readers {
        times.push(tokio::time::timeout(Duration::from_secs(30), joins.recv()).await?.context("no reader")?);
    }
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    seen.lock().unwrap().counting = true;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let mut seen = seen.lock().unwrap();
    seen.counting = false;
    seen.ages_us.sort_unstable();
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"frames_seen\": {}, \"age_p50_ms\": {:.3}, \"age_p99_ms\": {:.3}, \"age_max_ms\": {:.3}, \"join_p50_ms\": {:.3}, \"join_max_ms\": {:.3}}}",
        seen.frames,
        of(&seen.ages_us, 0.5),
        of(&seen.ages_us, 0.99),
        of(&seen.ages_us, 1.0),
        times[times.len() / 2],
        times[times.len() - 1],
    );
    std::process::exit(0);
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[1..] {
        ["publish", url, bytes, hz, group] => publish(url.parse()?, bytes.parse()?, hz.parse()?, group.parse()?).await,
        ["read", url, readers, seconds] => read(url.parse()?, readers.parse()?, seconds.parse()?).await,
        _ => bail!("moq-bench publish URL FRAME_BYTES HZ GROUP_FRAMES | read URL READERS SECONDS"),
    }
}
