"""The report's style sheet: light and dark by the reader's setting, black on white in print."""

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --soft: #5b6570; --rule: #d7dce1; --grid: #e8ebee; --tint: #f4f6f8;
  --alarm: #b3121d; --on-alarm: #ffffff; --caution: #8a5a00; --caution-tint: #fdf6e3; --plain: #b4bdc7;
  --s0: #1f5fa8; --s1: #c2571a; --s2: #2b7f5e; --s3: #8e4a9e;
    --s4: #a8862a; --s5: #4a90a4; --s6: #b0455f; --s7: #6b6f76;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e4e7ea; --soft: #9aa5b0; --rule: #363d45; --grid: #262c33; --tint: #1c2127;
    --alarm: #c4303a; --on-alarm: #ffffff; --caution: #e0b458; --caution-tint: #2a2416; --plain: #56606b;
    --s0: #6ea8e6; --s1: #ec8f55; --s2: #63bf97; --s3: #c48bd4;
    --s4: #d3b45a; --s5: #7fc4d8; --s6: #e27f98; --s7: #a7abb2;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 940px; padding: 40px 32px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
}
header p.kind { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .02em; }
h1 { font-size: 27px; line-height: 1.25; font-weight: 600; margin: 2px 0 18px; overflow-wrap: anywhere; }
h2 { font-size: 19px; font-weight: 600; margin: 48px 0 12px; padding-top: 12px; border-top: 2px solid var(--ink); }
h3 { font-size: 15px; font-weight: 600; margin: 26px 0 6px; overflow-wrap: anywhere; }
p { margin: 8px 0; max-width: 740px; overflow-wrap: anywhere; }
p.headline { font-size: 19px; line-height: 1.45; margin: 0 0 22px; max-width: none; }
table td:not(:last-child) > code { white-space: nowrap; }
.note, caption { color: var(--soft); font-size: 13px; }
nav { font-size: 13px; margin: 20px 0 0; } nav a { color: var(--soft); margin-right: 18px; white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; border: 1px solid var(--rule); margin: 0; }
.figures div { flex: 1 1 auto; padding: 10px 16px; border-right: 1px solid var(--rule); }
.figures div:last-child { border-right: 0; }
.figures dt { color: var(--soft); font-size: 12.5px; }
.figures dd { margin: 0; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.banner { border-left: 6px solid var(--caution); background: var(--caution-tint); padding: 10px 18px; }
.banner { margin: 0 0 22px; }
.banner.alarm { background: var(--alarm); color: var(--on-alarm); border: 0; padding: 14px 20px; }
.banner strong { display: block; font-size: 18px; } .banner p { margin: 2px 0; max-width: none; }
.scroll { overflow-x: auto; margin: 10px 0 4px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
caption { text-align: left; caption-side: bottom; padding-top: 6px; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
th, td { padding: 6px 14px 6px 0; } th:last-child, td:last-child { padding-right: 0; }
td { border-bottom: 1px solid var(--rule); vertical-align: top; overflow-wrap: anywhere; }
.figure { text-align: right; white-space: nowrap; }
tr.marked td { font-weight: 600; background: var(--tint); }
td > .refused { display: block; min-width: 12em; }
.refused { color: var(--alarm); } @media (prefers-color-scheme: dark) { .refused { color: #f08a90; } }
dl.facts { display: grid; grid-template-columns: 11em 1fr; gap: 4px 20px; margin: 10px 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 6px 0; padding-left: 20px; max-width: 46em; } li { margin: 2px 0; }
.covers { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 36px; }
pre, code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--tint); padding: 14px 18px; margin: 8px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 16px 0 8px; } figcaption { font-size: 13px; font-weight: 600; margin-bottom: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick, svg .axis, svg .faint { fill: var(--soft); } svg .strong { font-weight: 600; }
svg .grid { stroke: var(--grid); } svg .reference { stroke: var(--soft); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .lead { fill: none; opacity: .55; }
svg .bar.plain { fill: var(--plain); }
svg circle { stroke: var(--paper); stroke-width: 1; }
COLOURS
footer { margin-top: 52px; border-top: 1px solid var(--rule); padding-top: 10px; color: var(--soft); font-size: 13px; }
@media (max-width: 640px) { body { padding: 20px 16px 40px; } dl.facts { grid-template-columns: 1fr; gap: 0; } }
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --grid: #ddd; --tint: #f3f3f3; --plain: #aaa;
    --s0: #1f5fa8; --s1: #c2571a; --s2: #2b7f5e; --s3: #8e4a9e;
    --s4: #a8862a; --s5: #4a90a4; --s6: #b0455f; --s7: #6b6f76;
    --alarm: #b3121d; --caution: #8a5a00; --caution-tint: #fff;
  }
  @page { margin: 16mm 14mm; }
  table { font-size: 8.5pt; } th, td { padding-right: 8px; } td > .refused { min-width: 7em; }
  th.figure { white-space: normal; overflow-wrap: anywhere; }
  body { padding: 0; max-width: none; font-size: 10.5pt; } nav { display: none; }
  h2, h3, figcaption { break-after: avoid; } figure, tr, .banner, .figures, .statement { break-inside: avoid; }
  .refused { color: var(--alarm); } .scroll { overflow: visible; } thead { display: table-header-group; }
  .banner.alarm, .bar, tr.marked td { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
""".replace(
    "COLOURS",
    "\n".join(
        f"svg .line.s{i}, svg .lead.s{i} {{ stroke: var(--s{i}); }}\n"
        f"svg circle.s{i}, svg .bar.s{i} {{ fill: var(--s{i}); }}"
        for i in range(8)
    ),
).strip()
