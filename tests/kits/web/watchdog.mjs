// The watchdog on a clock of its own: `node watchdog.mjs KIT_FOLDER` prints what became of each path.

import { pathToFileURL } from "node:url";

const { Watchdog } = await import(pathToFileURL(`${process.argv[2]}/watchdog.js`));

/** A path whose gateway answers a ping after `tripMs`, that dies at `cutMs`, under a page that sleeps from..to. Answers
 *  when it was suspected (null: never, in `spanMs`), and how often it was asked. */
function play({ tripMs = 20, cutMs = Infinity, spanMs = 60_000, answers = true, sleep = [Infinity, 0], busy = [], ms = 2500 }) {
  let now = 0, asked = 0, suspected = null;
  const due = [];
  const clock = {
    now: () => now,
    set: (call, wait) => { const timer = { at: now + wait, call }; due.push(timer); return timer; },
    clear: timer => { const at = due.indexOf(timer); if (at >= 0) due.splice(at, 1); },
  };
  const link = { heardAt: 0, answersPings: answers };
  const dog = new Watchdog(ms, {
    clock, link: () => link,
    ask() {
      asked++;
      const trip = busy[asked - 1] ?? tripMs;
      if (!answers || now + trip / 2 > cutMs) return;
      clock.set(() => { if (now <= cutMs) { link.heardAt = now; dog.answered(trip); } }, trip);
    },
    suspect: () => { suspected ??= now; },
  });
  if (answers) dog.answered(tripMs); // each connection begins with a ping
  dog.start();
  while (due.length) {
    due.sort((a, b) => a.at - b.at);
    const timer = due.shift();
    now = Math.max(now, timer.at);
    if (now >= sleep[0] && now < sleep[1]) now = sleep[1];
    if (now > spanMs) break;
    timer.call();
  }
  return { suspected, asked };
}

const worst = Math.max(...Array.from({ length: 400 }, (_, n) => play({ cutMs: 10_000 + n * 13 }).suspected - (10_000 + n * 13)));
console.log(JSON.stringify({
  worst,
  quiet: play({}),
  slow: play({ tripMs: 1500 }),
  slow_and_cut: play({ tripMs: 700, cutMs: 20_000 }).suspected - 20_000,
  once_busy: play({ busy: [20, 700, 20], cutMs: 20_000 }).suspected - 20_000,
  older: play({ answers: false }).suspected,
  slept: play({ sleep: [5000, 40_000] }).suspected,
  off: play({ ms: 0 }),
}));
