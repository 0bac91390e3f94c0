"""How the page looks: one style sheet, light and dark, on a phone, on a desk and on paper; no fonts from elsewhere."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--paper:#fcfcfb;--card:#fff;--ink:#1c2127;--soft:#59636e;--line:#dfe3e8;--accent:#1f5fa8;
--good:#1d7a46;--warn:#8a5300;--warn-paper:#fff6e0;--bad:#b3261e;--mark:#eaf2fb;
--c0:#1f5fa8;--c1:#c2551f;--c2:#2f8050;--c3:#8a4fa3;--c4:#93750f;--c5:#5b6770;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;
--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1b1f24;--ink:#e4e7eb;--soft:#9aa5b1;--line:#333a43;
--accent:#7db4f2;--good:#6ccb93;--warn:#f0bf6a;--warn-paper:#2c2413;--bad:#ff8d84;--mark:#1c2b3d;
--c0:#7db4f2;--c1:#f2935f;--c2:#6ccb93;--c3:#cd9be3;--c4:#dcbf5c;--c5:#aab4be}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 var(--sans)}
main,header,footer,nav{max-width:68rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.5rem}
h1{font-size:2rem;line-height:1.2;margin:0;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:1.35rem;margin:0 0 .4rem;line-height:1.3}
h3{font-size:1.02rem;margin:1.6rem 0 .4rem}
p{margin:.5rem 0}
a{color:var(--accent)}
.kicker{color:var(--soft);margin:.3rem 0 0;overflow-wrap:anywhere}
.verdict{font-size:1.08rem;font-weight:600;margin:.2rem 0 1rem;overflow-wrap:anywhere;max-width:60rem}
.note,.legend,caption{color:var(--soft);font-size:.9rem}
.note{max-width:60rem}
section{margin:0 0 3rem;padding-top:1.6rem;border-top:1px solid var(--line)}
nav{margin-top:1.2rem;margin-bottom:2rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;margin:0;padding:0;font-size:.95rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:.8rem;margin:1.4rem 0 1rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.card p{margin:0}.card .big{font-size:1.7rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.card .what{color:var(--soft);font-size:.85rem}.card .more{font-size:.9rem}
.warning{background:var(--warn-paper);border-left:4px solid var(--warn);padding:.55rem .9rem;margin:.6rem 0;
border-radius:0 .4rem .4rem 0;overflow-wrap:anywhere}
.warning strong{color:var(--warn)}
.good{color:var(--good)}.bad{color:var(--bad)}
dl{margin:.8rem 0;display:grid;grid-template-columns:1fr;gap:0}
dl div{display:grid;grid-template-columns:11rem 1fr;gap:.2rem 1rem;padding:.28rem 0;border-bottom:1px solid var(--line)}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:.9rem 0}
.wide:focus-visible,pre:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;padding:0 0 .4rem}
th,td{text-align:left;padding:.36rem .7rem .36rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:600;white-space:nowrap;border-bottom-width:2px}
tbody th{font-weight:500;overflow-wrap:anywhere;min-width:8rem}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;padding-left:.5rem}
.marked>*{background:var(--mark)}.marked th{font-weight:700}
tbody td:not(.n){min-width:8rem}
code,pre{font-family:var(--mono);font-size:.88em}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;overflow-x:auto;
line-height:1.5}
.why{display:block;color:var(--soft);font-size:.85rem;font-weight:400}
.hash{font-family:var(--mono);font-size:.85em;overflow-wrap:anywhere;word-break:break-all}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr));gap:1.5rem;margin:1rem 0}
figure{margin:0}figcaption{color:var(--soft);font-size:.9rem;margin-top:.35rem}
.plot svg{display:block;width:100%;height:auto;max-width:32rem}
.plot svg *{stroke-linejoin:round;stroke-linecap:butt}.plot svg text{fill:currentColor}
.bars{display:grid;grid-template-columns:1fr auto;gap:.15rem .5rem;min-width:9rem;align-items:center;font-size:.85rem;
font-variant-numeric:tabular-nums}
.bar{display:block;height:.55rem;border-radius:.15rem;background:var(--c0);min-width:1px;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
.bar.int8{background:var(--c1)}
.samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1.2rem}
.sample{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem;min-width:0}
.sample h3{margin:0 0 .5rem}.sample tbody th{min-width:5rem}
.views{display:flex;flex-wrap:wrap;gap:.8rem;align-items:flex-start}
.view{width:9.5rem}.view.large{width:12.5rem}
.view img,.view svg{display:block;width:100%;height:auto;border:1px solid var(--line);border-radius:.25rem;
background:#8884}
.pixelated{image-rendering:pixelated}
.view figcaption{font-size:.85rem}
.legend>span{white-space:nowrap;margin-right:.9rem}
.key{display:inline-block;width:.8em;height:.8em;border-radius:.15em;margin-right:.35em;border:1px solid var(--line);
vertical-align:-.05em;-webkit-print-color-adjust:exact;print-color-adjust:exact}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--accent)}
.labels{columns:9rem;padding-left:2.5rem;font-size:.92rem}.labels li{overflow-wrap:anywhere;break-inside:avoid}
footer{color:var(--soft);font-size:.88rem;padding-bottom:3rem;overflow-wrap:anywhere}
@media(max-width:34rem){body{font-size:15px}h1{font-size:1.6rem}header{padding-top:1.5rem}
dl div{grid-template-columns:1fr}dt{font-size:.85rem}.view{width:calc(50% - .4rem)}.view.large{width:100%}
.stacks,.stacks table,.stacks caption,.stacks tbody{display:block}
.stacks thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stacks tbody tr{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:.1rem 1rem;padding:.36rem 0;
border-bottom:1px solid var(--line)}
.stacks tbody th,.stacks tbody td{border:0;padding:0;min-width:0;white-space:normal;overflow-wrap:anywhere}
.stacks tbody th{grid-column:1/-1}
.stacks tbody td{display:flex;flex-wrap:wrap;justify-content:flex-end;gap:0 .6rem}
.stacks td::before{content:attr(data-label);color:var(--soft);margin-right:auto}}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--accent:#1f5fa8;--mark:#eef3f9;
--warn-paper:#fff;--warn:#8a5300;--good:#1d7a46;--bad:#b3261e;
--c0:#1f5fa8;--c1:#c2551f;--c2:#2f8050;--c3:#8a4fa3;--c4:#93750f;--c5:#5b6770}
body{font-size:10.5pt}nav{display:none}main,header,footer{max-width:none;padding:0}.wide,pre{overflow:visible}
pre{white-space:pre-wrap}section{break-inside:auto}.card,.sample,tr,figure,.warning{break-inside:avoid}
h2,h3,.verdict{break-after:avoid}details::details-content{content-visibility:visible;block-size:auto}
table{font-size:.82rem}}
"""
