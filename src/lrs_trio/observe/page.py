"""What the picture of a timeline looks like: its colours, and the page around it.

One colour means one thing: blue is I/O wherever it is, orange a sync, green a format, purple a medium that is moved or
handled, grey a device that does nothing, brown a request that waits. They are told apart by people who lack one
kind of cones; what is out of service is hatched besides. Nothing is loaded from anywhere, and without its script the
page is only stiffer: everything is there and the browser shows what each bar says.
"""

from __future__ import annotations

from string import Template
from typing import Final

PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1>$about</header>
$body
<script>$script</script>
</body>
</html>
""")

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f4f6f8; --card: #fff; --ink: #1d2733; --soft: #5d6b7a; --line: #e1e6eb; --track: #f7f9fa; --stay: #eef2f5;
  --writing: #0072b2; --reading: #56b4e9; --both: #1f93d0; --syncing: #e69f00; --formatting: #009e73;
  --moving: #7f386c; --handling: #b17393; --adopting: #3c2534; --failed: #d55e00; --out: #98a2ac;
  --mounted: #aebac9; --loaded: #d0d9e2; --empty: #eef1f4;
  --queued: #f0d7a6; --planned: #575331; --release: #b4b26e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12171d; --card: #1a2129; --ink: #e4eaf0; --soft: #94a3b3; --line: #2b3540; --track: #1e262f;
    --stay: #27313b; --writing: #1478c4; --both: #3a97dc; --reading: #6fbdf0; --syncing: #f0ad1c;
    --formatting: #00b084; --moving: #7c5081; --handling: #c687b0; --adopting: #eedbe3; --failed: #d9630a;
    --out: #6d7a87; --mounted: #6b7d87; --loaded: #424b53; --empty: #2a323a;
    --queued: #66502a; --planned: #cfc76f; --release: #a88a60;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 20px 24px 40px; max-width: 1700px; background: var(--page); color: var(--ink);
  print-color-adjust: exact;
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
h1 { margin: 0 0 2px; font-size: 22px; font-weight: 650; }
h2 { margin: 26px 0 8px; font-size: 16px; font-weight: 650; }
p { margin: 0 0 4px; max-width: 120ch; }
.soft { color: var(--soft); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.tile, .card { border-radius: 10px; background: var(--card); border: 1px solid var(--line); }
.tile { flex: 1 1 150px; padding: 10px 14px; }
.tile b { display: block; font-size: 23px; font-weight: 600; line-height: 1.25; }
.card { padding: 12px 14px; margin-top: 12px; overflow: hidden; }

.legend { position: relative; margin-bottom: 6px; font-size: 12.5px; }
.legend p { display: flex; flex-wrap: wrap; gap: 3px 16px; align-items: center; max-width: none; }
.scripted .legend p:first-child { padding-right: 220px; }
.legend b { min-width: 84px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.legend i { width: 13px; height: 13px; border-radius: 3px; outline: 1px solid var(--line); }
.legend .tools { display: none; gap: 4px; position: absolute; top: 0; right: 0; }
.scripted .legend .tools { display: inline-flex; }
#now { min-width: 62px; justify-content: end; color: var(--soft); font-variant-numeric: tabular-nums; }
button { font: inherit; font-size: 12px; min-width: 26px; padding: 1px 7px; border-radius: 6px; cursor: pointer;
  border: 1px solid var(--line); background: var(--page); color: var(--ink); }

.plot { display: flex; }
.plot > svg { flex: none; display: block; }
.scroll { flex: 1; min-width: 0; overflow: auto hidden; position: relative; padding-bottom: 2px; }
.scroll > svg { display: block; width: 100%; overflow: visible; }
#hair { position: absolute; top: 22px; bottom: 22px; width: 1px; background: var(--soft); opacity: .55; display: none;
  pointer-events: none; }
svg text { font-size: 12px; fill: var(--ink); }
.names text { text-anchor: end; }
.names .heading { font-size: 11px; font-weight: 650; fill: var(--soft); letter-spacing: .06em;
  text-transform: uppercase; }
.names .unit, svg .tick, svg .note { font-size: 11px; fill: var(--soft); }
svg .tick { text-anchor: middle; }
svg .first { text-anchor: start; }
svg .last { text-anchor: end; }
.fine { visibility: hidden; }
.zoomed .fine { visibility: visible; }
.grid { stroke: var(--line); }
.track { fill: var(--track); }
.medium text { text-anchor: middle; font-size: 10px; fill: var(--soft); }
.medium .tight { visibility: hidden; }
.stay { fill: var(--stay); rx: 3px; stroke: var(--card); stroke-width: 1.5; }
.mark { overflow: visible; }
.fault path { fill: var(--failed); stroke: var(--card); stroke-width: 1.2; }
.refused path { fill: var(--ink); stroke: var(--card); stroke-width: .8; }

svg rect[class^="s-"], svg rect[class^="r-"], svg path[class] { fill: var(--c); }
.life rect { stroke: var(--c); stroke-width: .5; }
svg rect[class^="s-"]:hover, .life:hover rect { filter: brightness(1.18); }
.s-writing { --c: var(--writing); }
.s-reading { --c: var(--reading); }
.s-reading-and-writing { --c: var(--both); }
.s-syncing { --c: var(--syncing); }
.s-formatting { --c: var(--formatting); }
.s-loading, .s-unloading { --c: var(--moving); }
.s-mounting, .s-unmounting { --c: var(--handling); }
.s-adopting { --c: var(--adopting); }
.s-mounted { --c: var(--mounted); }
.s-loaded { --c: var(--loaded); }
.s-empty { --c: var(--empty); }
.r-queued { --c: var(--queued); }
.r-planned { --c: var(--planned); }
.r-release { --c: var(--release); }
svg rect.s-failed { fill: url(#failed); }
svg rect.s-quarantined { fill: url(#quarantined); }
svg rect.s-waiting, svg rect.s-stopped, svg rect.s-unknown { fill: url(#out); }
#failed path, #quarantined path { stroke: var(--failed); }
#out path { stroke: var(--out); }
i, .shares span { background: var(--c); }
i.s-failed, span.s-failed, i.s-quarantined, span.s-quarantined { --hatch: var(--failed); }
i.s-waiting, span.s-waiting, i.s-stopped, span.s-stopped, i.s-unknown, span.s-unknown { --hatch: var(--out); }
i, .shares span { background-image: repeating-linear-gradient(135deg,
  var(--hatch, transparent) 0 1px, transparent 1px 4.24px); }
i.s-quarantined, span.s-quarantined { background-image:
  repeating-linear-gradient(135deg, var(--hatch) 0 1px, transparent 1px 4.24px),
  repeating-linear-gradient(45deg, var(--hatch) 0 1px, transparent 1px 4.24px); }

.tables { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { font-size: 12px; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); }
tr.all td { font-weight: 650; border-top: 2px solid var(--line); }
.left { text-align: left; }
.wide { white-space: normal; }
.shares { display: flex; width: 190px; height: 12px; border-radius: 3px; overflow: hidden; }

@media print { body { background: none; } .legend .tools { display: none !important; } }
"""

SCRIPT: Final = """
"use strict";
(() => {
  const scroll = document.querySelector(".scroll");
  if (!scroll) return;
  const drawing = scroll.querySelector("svg");
  const hair = document.getElementById("hair"), now = document.getElementById("now");
  const begin = +drawing.dataset.begin, end = +drawing.dataset.end;
  const labels = [...drawing.querySelectorAll(".medium")].map(medium =>
    [medium.lastElementChild, parseFloat(medium.getAttribute("x")), parseFloat(medium.getAttribute("width")),
     +medium.dataset.needed]);
  let zoom = 1;
  document.body.classList.add("scripted");
  const fit = () => {
    const pixels = scroll.clientWidth * zoom / 100;
    const left = scroll.scrollLeft / pixels, right = left + 100 / zoom;
    for (const [label, x, width, needed] of labels) {
      const from = Math.max(x, left), to = Math.min(x + width, right);
      label.classList.toggle("tight", (to - from) * pixels < needed);
      label.setAttribute("x", 100 * ((from + to) / 2 - x) / width + "%");
    }
    scroll.classList.toggle("zoomed", zoom >= 5);
  };
  const set = (wanted, x) => {
    const before = (scroll.scrollLeft + x) / zoom;
    zoom = Math.min(Math.max(wanted, 1), 60);
    drawing.style.width = 100 * zoom + "%";
    scroll.scrollLeft = before * zoom - x;
    fit();
  };
  const clock = s => {
    const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, rest = (s % 60).toFixed(end - begin < 600 ? 2 : 0);
    return (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + (s % 60 < 9.995 ? "0" : "") + rest;
  };
  scroll.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    set(zoom * Math.exp(-event.deltaY / 300), event.clientX - scroll.getBoundingClientRect().left);
  }, { passive: false });
  scroll.addEventListener("mousemove", event => {
    const box = drawing.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
    hair.style.display = "block";
    hair.style.left = share * box.width + "px";
    now.textContent = clock(begin + share * (end - begin));
  });
  scroll.addEventListener("mouseleave", () => { hair.style.display = "none"; now.textContent = ""; });
  const middle = () => scroll.clientWidth / 2;
  document.getElementById("in").onclick = () => set(zoom * 2, middle());
  document.getElementById("out-again").onclick = () => set(zoom / 2, middle());
  document.getElementById("whole").onclick = () => set(1, 0);
  addEventListener("resize", fit);
  scroll.addEventListener("scroll", fit);
  fit();
})();
"""
