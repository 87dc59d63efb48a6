// The page of the painted desktop: sends what the mouse and keyboard do, shows the frame that comes back.

const WIDTH = 32;
const HEIGHT = 24;
const PACE = 100; // milliseconds between two steps
const canvas = document.getElementById("screen");
const context = canvas.getContext("2d");
const told = Object.fromEntries(["version", "step", "rate", "state"].map((id) => [id, document.getElementById(id)]));

let socket;
let waiting = true; // for the answer to the last step
let retry = 500;
let pending = nothing(WIDTH / 2, HEIGHT / 2);
let startsOver = false; // as soon as the answer is there
const times = [];

function nothing(x, y) {
  return { x, y, is_left_click: false, is_right_click: false, keys_down: [], keys_up: [] };
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    retry = 500;
    told.state.textContent = "connected";
  };
  socket.onmessage = show;
  socket.onclose = () => {
    told.state.textContent = "reconnecting";
    setTimeout(connect, retry);
    retry = Math.min(retry * 2, 8000);
  };
}

async function show(event) {
  const length = new DataView(event.data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(event.data.slice(4, 4 + length)));
  const picture = await createImageBitmap(new Blob([event.data.slice(4 + length)], { type: "image/png" }));
  context.drawImage(picture, 0, 0);
  told.version.textContent = header.version;
  told.step.textContent = header.seq < 0 ? "–" : header.seq;
  const now = performance.now();
  times.push(now);
  while (times[0] < now - 2000) times.shift();
  told.rate.textContent = (times.length / 2).toFixed(1);
  waiting = false;
}

function send() {
  if (waiting || socket.readyState !== WebSocket.OPEN) return;
  waiting = true;
  socket.send(JSON.stringify(startsOver ? { reset: true } : pending));
  startsOver = false;
  pending = nothing(pending.x, pending.y);
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const border = (box.width - canvas.clientWidth) / 2;
  const x = Math.floor(((event.clientX - box.left - border) / canvas.clientWidth) * WIDTH);
  const y = Math.floor(((event.clientY - box.top - border) / canvas.clientHeight) * HEIGHT);
  pending.x = Math.min(Math.max(x, 0), WIDTH - 1);
  pending.y = Math.min(Math.max(y, 0), HEIGHT - 1);
}

canvas.addEventListener("pointermove", place);
canvas.addEventListener("pointerdown", (event) => {
  place(event);
  if (event.button === 0) pending.is_left_click = true;
  if (event.button === 2) pending.is_right_click = true;
});
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("keydown", (event) => {
  if (event.key === "Tab") return;
  if (pending.keys_down.length < 16) pending.keys_down.push(event.key.slice(0, 32));
});
canvas.addEventListener("keyup", (event) => {
  if (event.key !== "Tab" && pending.keys_up.length < 16) pending.keys_up.push(event.key.slice(0, 32));
});
document.getElementById("reset").addEventListener("click", () => {
  startsOver = true;
});

connect();
setInterval(send, PACE);
