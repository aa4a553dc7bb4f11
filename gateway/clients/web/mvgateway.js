// mvgateway in the browser: ES modules, no build step, no dependencies.
//
//   import { Subscriber, Publisher } from "./mvgateway.js";
//   const sub = new Subscriber("https://127.0.0.1:4433", "arena");
//   sub.onframe = frame => draw(sub.state);      // Map: key -> Uint8Array
//   await sub.open();
//
// WebTransport first, WebSocket where there is none or UDP gets no answer. The protocol is docs/FRAMES.md's, version 1.

export { decode, encode, encodeFrame, Rebuilder } from "./wire.js";
export { WorldState } from "./state.js";
export { GatewayRefused } from "./refusals.js";
export { Session } from "./session.js";
export { Subscriber } from "./subscriber.js";
export { Publisher } from "./publisher.js";
export { CommandRefused, Replay } from "./replay.js";
export { BackgroundSubscriber } from "./background.js";
export { Entities, GatewayError } from "./entities.js";
