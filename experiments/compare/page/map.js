// Map of candidates: place is meaning, size is estimated votes, colour is the round of birth, lines go from parent to child.

const mapShown = { rounds: null, lines: true };

function drawMap() {
  const hold = place('map');
  const run = DATA.runs[state.run];
  if (!mapShown.rounds || mapShown.run !== run) Object.assign(mapShown, { run, rounds: new Set(run.rounds.map((r) => r.number)) });
  const box = el('div', { class: 'panel' });
  const side = el('aside', { class: 'panel reader', 'aria-label': 'The chosen text', tabindex: 0 });
  const draw = () => box.replaceChildren(...mapChart(run, Math.max(380, box.clientWidth - 34), select));
  const select = (c) => { change({ selected: c }); };
  hold.replaceChildren(el('div', { class: 'controls' }, runMenu(), roundToggles(run, draw),
    el('label', {}, el('input', { type: 'checkbox', checked: mapShown.lines, onchange: (e) => { mapShown.lines = e.target.checked; draw(); } }), ' lines from parent to child')),
  el('div', { class: 'mapbox' }, box, side));
  draw();
  side.replaceChildren(...[reader(run, state.selected ?? favourite(run), select)].flat(3).filter(Boolean));
}

// Without a choice: the winner of the last poll that has the longest line.
function favourite(run) {
  const { polls } = model(run);
  const last = run.rounds.filter((r) => r.count).pop();
  const top = last.ids.filter((_, i) => last.rank[i] >= 0 && last.rank[i] < 20);
  const line = (c) => ancestors(run, c).length * 1e6 + lastPoll(polls[c]).count;
  return top.reduce((a, b) => (line(b) > line(a) ? b : a), top[0] ?? last.ids[0]);
}

function roundToggles(run, draw) {
  const rounds = run.rounds.length;
  return el('fieldset', { class: 'seg multi' }, el('legend', {}, 'Slates'), run.rounds.map((round) => {
    const text = el('span', {}, round.count ? `poll ${round.number + 1}` : 'refined');
    text.style.borderLeft = `9px solid ${roundColor(round.number, rounds)}`;
    return el('label', {}, el('input', { type: 'checkbox', checked: mapShown.rounds.has(round.number),
      onchange: (e) => { mapShown.rounds[e.target.checked ? 'add' : 'delete'](round.number); draw(); } }), text);
  }));
}

function mapChart(run, width, select) {
  const { polls, rounds } = model(run);
  const height = 580;
  const latest = polls.map((of) => of.filter((p) => mapShown.rounds.has(p.number)).pop());
  const shown = latest.map((p, c) => (p ? c : -1)).filter((c) => c >= 0);
  if (!shown.length) return [el('p', { class: 'quiet' }, 'Choose at least one slate.')];
  // A refined corpus has shares instead of votes: drawn as the votes that such a share would be.
  const reports = run.polls[run.polls.length - 1][0];
  const value = (c) => (latest[c].count ?? latest[c].weight * reports);
  const largest = Math.max(1, ...polls.flat().map((p) => p.count ?? 0));
  const radius = (v) => 2.2 + 17 * Math.sqrt(Math.max(0, v) / largest);
  const xs = run.xy.map((p) => p[0]);
  const ys = run.xy.map((p) => p[1]);
  const range = (values) => Math.max(...values) - Math.min(...values) || 1;
  // A principal axis may be drawn up to half as long again, to fill the window.
  const [wide, high] = [(width - 44) / range(xs), (height - 44) / range(ys)];
  const scale = [Math.min(wide, 1.5 * high), Math.min(high, 1.5 * wide)];
  const middle = (values) => (Math.max(...values) + Math.min(...values)) / 2;
  const px = (c) => width / 2 + (run.xy[c][0] - middle(xs)) * scale[0];
  const py = (c) => height / 2 + (run.xy[c][1] - middle(ys)) * -scale[1];
  const chosen = state.selected ?? favourite(run);
  const chain = ancestors(run, chosen);
  const chart = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'application', tabindex: 0,
    'aria-label': `Map of ${shown.length} candidates. Left and right arrows go through them by votes, up to the parent, down to the first child, Enter chooses.` });
  if (mapShown.lines) chart.append(svg('g', { 'stroke-width': 0.9, 'stroke-opacity': 0.22 }, shown.flatMap((c) => run.parents[c].filter((p) => latest[p]).map((p) =>
    svg('line', { x1: px(p).toFixed(1), y1: py(p).toFixed(1), x2: px(c).toFixed(1), y2: py(c).toFixed(1), stroke: roundColor(run.born[c], rounds) })))));
  const order = shown.slice().sort((a, b) => value(b) - value(a));
  chart.append(svg('g', { stroke: 'var(--panel)', 'stroke-width': 0.8 }, order.map((c) => svg('circle', { cx: px(c).toFixed(1), cy: py(c).toFixed(1), r: radius(value(c)).toFixed(1),
    fill: roundColor(run.born[c], rounds), 'fill-opacity': standsOut(latest[c]) ? 0.92 : latest[c].count === undefined ? 0.55 : 0.42 }))));
  chart.append(svg('path', { d: path(chain.map((c) => [px(c), py(c)])), fill: 'none', stroke: 'var(--ink)', 'stroke-width': 2, 'stroke-linejoin': 'round' }));
  chart.append(...chain.map((c) => svg('circle', { cx: px(c), cy: py(c), r: c === chosen ? Math.max(6, radius(latest[c] ? value(c) : 0) + 2.5) : 3.5,
    fill: c === chosen ? 'none' : 'var(--ink)', stroke: 'var(--ink)', 'stroke-width': 2 })));
  const ring = svg('circle', { r: 0, fill: 'none', stroke: 'var(--ink)', 'stroke-width': 1.5 });
  chart.append(ring);
  mapKeys(chart, run, order, { px, py, radius: (c) => radius(value(c)), latest, ring, chosen, select });
  return [chart, mapKey(run, radius, largest)];
}

function mapKeys(chart, run, order, { px, py, radius, latest, ring, chosen, select }) {
  let current = null;
  const tell = (event, c) => {
    current = c;
    for (const [name, value] of [['cx', px(c)], ['cy', py(c)], ['r', radius(c) + 2]]) ring.setAttribute(name, value);
    tip(event, candidateTip(run, c, latest[c]));
  };
  const leave = () => { ring.setAttribute('r', 0); untip(); };
  chart.addEventListener('mousemove', (event) => {
    const box = chart.getBoundingClientRect();
    const scale = box.width / chart.viewBox.baseVal.width;
    const [x, y] = [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale];
    // Small points lie on top of large ones, so the nearest edge counts, not the nearest centre.
    let best = [16, null];
    for (const c of order) {
      const gap = Math.hypot(px(c) - x, py(c) - y) - radius(c) * 0.6;
      if (gap < best[0]) best = [gap, c];
    }
    if (best[1] === null) { current = null; leave(); } else tell(event, best[1]);
  });
  chart.addEventListener('mouseleave', leave);
  chart.addEventListener('blur', leave);
  chart.addEventListener('click', () => current !== null && select(current));
  chart.addEventListener('keydown', (event) => {
    const from = current ?? chosen;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const target = step ? order[Math.max(0, Math.min(order.length - 1, order.indexOf(from) + step))]
      : event.key === 'ArrowUp' ? run.parents[from].find((p) => latest[p])
        : event.key === 'ArrowDown' ? model(run).children[from].find((c) => latest[c]) : undefined;
    if (event.key === 'Enter') { select(from); return; }
    if (!step && !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    if (target === undefined) return;
    tell(event, target);
    say(byId('tip').innerText);
  });
}

function mapKey(run, radius, largest) {
  const sizes = [1, 0.35, 0.1].map((share) => atMost(largest * share)).filter((v, i, all) => all.indexOf(v) === i);
  let x = 0;
  const circles = sizes.map((v) => {
    const r = radius(v);
    x += r + 4;
    const parts = [svg('circle', { cx: x, cy: 20, r, fill: 'none', stroke: 'var(--soft)' }), svg('text', { x: x + r + 5, y: 24 }, whole.format(v))];
    x += r + 34;
    return parts;
  });
  const key = svg('svg', { viewBox: `0 0 ${x} 40`, role: 'img', 'aria-label': 'Size of a circle: estimated votes' }, circles);
  key.style.width = `${x}px`;
  return el('div', { class: 'legend quiet' }, key, el('span', {}, `estimated votes; pale: less than ${threshold()} standard errors. Colour: the round a text was born in.`),
    el('span', {}, `The plane shows ${show(run.variance, 'percent')} of the variance.`));
}
