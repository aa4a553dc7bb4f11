// Films that are dropped on the page of `mvgateway film`, or chosen there, open in its film room.

import { told } from "./ask.js";
import { takesThem } from "./films.js";

/** `say(text)`: what goes wrong, or is under way. */
export function takesFilms(say) {
  if (!takesThem) return; // a gateway: its worlds are its own
  document.getElementById("take").hidden = false;
  const take = async file => {
    if (!file) return;
    say(`${file.name} is on its way`);
    try {
      const { world } = await told(`/v1/films?name=${encodeURIComponent(file.name)}`, { method: "POST", headers: { "content-type": "application/vnd.sqlite3" }, body: file });
      location.assign(`/film#${encodeURIComponent(world)}`);
    } catch (error) { say(`${file.name}: ${error.message}`); }
  };
  document.getElementById("file").onchange = event => take(event.target.files[0]);
  addEventListener("dragover", event => event.preventDefault());
  addEventListener("drop", event => { event.preventDefault(); take(event.dataTransfer.files[0]); });
}
