// One poll: the estimated votes with their standard errors, and the texts that won and lost.

const CARDS = 4;

function runMenu() {
  const runs = DATA.runs.map((run, i) => [i, run]).filter(([, run]) => run.rounds);
  if (runs.length < 2) return '';
  return menu('Run', runs.map(([i, run]) => [i, `${GROUPS[run.group].label}, seed ${run.seed}`]), state.run,
    (i) => change({ run: Number(i), round: null, selected: null }));
}

function drawPoll() {
  const hold = place('poll');
  const run = DATA.runs[state.run];
  const polled = run.rounds.filter((round) => round.count);
  const number = Math.min(state.round ?? polled.length - 1, polled.length - 1);
  const round = polled[number];
  const order = round.ids.map((_, i) => i).sort((a, b) => round.count[b] - round.count[a]);
  const [reports, none, noneError] = run.polls[number];
  const outstanding = round.count.filter((count, i) => count >= threshold() * stderrOf(round, i)).length;
  hold.replaceChildren(
    el('div', { class: 'controls' }, runMenu(),
      choice('Poll', polled.map((r) => [r.number, r.number + 1]), number, (r) => change({ round: r }))),
    el('p', { class: 'quiet' }, `${whole.format(reports)} devices reported. `,
      none !== null && `${show(none, 'percent')} ± ${show(noneError, 'percent')} said 'none of these'. `,
      el('b', {}, `${outstanding} of ${round.ids.length}`), ` candidates stand out by ${threshold()} standard errors or more; ${whole.format(round.rank.filter((r) => r >= 0).length)} were kept.`),
    el('div', { class: 'panel' }, votesChart(run, round, order, Math.max(420, hold.clientWidth - 34)), votesKey(round)),
    el('div', { class: 'two' }, textList(run, round, order.filter((i) => round.rank[i] >= 0), 'Winners', 'Most estimated votes.'),
      textList(run, round, order.filter((i) => round.rank[i] < 0).reverse(), 'Losers', 'Fewest estimated votes. A count below zero is noise: nobody votes less than never.')));
}
const stderrOf = (round, i) => round.stderr[round.stderr.length > 1 ? i : 0];

function votesKey(round) {
  const dot = (color, opacity) => { const s = swatch(color); s.style.borderRadius = '50%'; s.style.opacity = opacity; return s; };
  return el('div', { class: 'legend quiet' }, el('span', {}, dot('var(--accent)', 1), ' kept'), el('span', {}, dot('var(--faint)', 0.7), ' not kept'),
    el('span', {}, swatch('color-mix(in srgb, var(--accent) 22%, transparent)'), ' estimate ± one standard error'),
    round.votes && el('span', { class: 'of-truth oracle' }, '◇ true votes (simulation only)'));
}

function votesChart(run, round, order, width) {
  const height = 290;
  const m = order.length;
  const left = 52;
  const right = 70;
  const [low, high] = extent(order.flatMap((i) => [round.count[i] + stderrOf(round, i), round.count[i] - stderrOf(round, i)])
    .concat(round.votes && state.oracle ? [Math.max(...round.votes)] : []), 0.04);
  const x = linear(0, m - 1, left + 6, width - right - 6);
  const y = linear(low, high, height - 26, 10);
  const yTicks = ticks(low, high, 5);
  const mean = run.polls[round.number][0] / m;
  const bar = threshold() * Math.min(...round.stderr);
  const at = (value, text, className) => [svg('line', { class: className, x1: left, x2: width - right, y1: y(value), y2: y(value) }),
    svg('text', { x: width - right + 6, y: y(value) + 4, 'data-y': y(value) }, text)];
  const up = order.map((i, k) => [x(k), y(round.count[i] + stderrOf(round, i))]);
  const down = order.map((i, k) => [x(k), y(round.count[i] - stderrOf(round, i))]).reverse();
  const chart = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: 0,
    'aria-label': `Estimated votes of ${m} candidates, sorted: from ${estimate({ count: round.count[order[0]], stderr: stderrOf(round, order[0]) })} to ${votes(round.count[order[m - 1]])}. Arrow keys read the candidates, Enter shows one on the map.` },
  yTicks.map((t) => [svg('line', { class: t === 0 ? 'axis' : 'gridline', x1: left, x2: width - right, y1: y(t), y2: y(t) }),
    svg('text', { x: left - 8, y: y(t) + 4, 'text-anchor': 'end' }, whole.format(t))]),
  svg('path', { d: `${path([...up, ...down])}Z`, fill: 'var(--accent)', 'fill-opacity': 0.16 }),
  bar < high && at(bar, `${threshold()} s.e.`, 'guide'), Math.abs(y(mean) - y(bar)) > 13 && at(mean, 'mean', 'guide'),
  svg('text', { x: left - 8, y: 0, class: 'strong' }, 'estimated votes'),
  svg('text', { x: width - right, y: height - 6, 'text-anchor': 'end' }, 'candidates, most votes first'));
  const dots = order.map((i, k) => svg('circle', { cx: x(k), cy: y(round.count[i]), r: m > 150 ? 2 : 3, fill: round.rank[i] >= 0 ? 'var(--accent)' : 'var(--faint)' }));
  chart.append(svg('g', {}, dots));
  if (round.votes) chart.append(svg('g', { class: 'truth oracle' }, order.map((i, k) => {
    const s = m > 150 ? 2.4 : 3.4;
    return svg('path', { d: `M${x(k).toFixed(1)} ${(y(round.votes[i]) - s).toFixed(1)}l${s} ${s}l${-s} ${s}l${-s} ${-s}Z` });
  })));
  walk(chart, m, (px) => Math.round(((px * width - left - 6) / (width - right - left - 12)) * (m - 1)), (event, k) => {
    dots.forEach((dot, j) => dot.setAttribute('stroke', j === k ? 'var(--ink)' : 'none'));
    const i = order[k];
    tip(event, candidateTip(run, round.ids[i], { number: round.number, count: round.count[i], stderr: stderrOf(round, i), rank: round.rank[i], votes: round.votes && round.votes[i] }));
  }, (k) => showOnMap(round.ids[order[k]]));
  return chart;
}

// Moving along a drawing with the mouse or the arrow keys; a click or Enter chooses.
function walk(chart, count, find, tell, choose) {
  let current = 0;
  const go = (event, k) => { current = Math.max(0, Math.min(count - 1, k)); tell(event, current); };
  chart.addEventListener('mousemove', (event) => {
    const box = chart.getBoundingClientRect();
    go(event, find((event.clientX - box.left) / box.width));
  });
  chart.addEventListener('mouseleave', untip);
  chart.addEventListener('blur', untip);
  chart.addEventListener('click', () => choose(current));
  chart.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') choose(current);
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!step) return;
    event.preventDefault();
    go(event, current + step);
    say(byId('tip').innerText);
  });
}

function candidateTip(run, c, poll) {
  return [el('b', {}, headline(run, c)),
    poll && poll.count !== undefined && el('div', {}, `poll ${poll.number + 1}: ${estimate(poll)} votes, ${poll.rank >= 0 ? `winner ${poll.rank + 1}` : 'not kept'}`),
    poll && poll.weight !== undefined && el('div', {}, `refined corpus: ${show(poll.weight, 'percent')} of the weight`),
    poll && poll.votes !== undefined && state.oracle && el('div', { class: 'of-truth oracle' }, `true votes: ${whole.format(poll.votes)} (simulation only)`),
    mail(run, c, 380)];
}

function textList(run, round, order, title, note) {
  const cards = order.slice(0, 12).map((i, k) => textCard(run, round, i, k));
  const list = el('ol', { class: 'texts' }, cards.slice(0, CARDS));
  const more = el('button', { type: 'button', onclick: () => { list.append(...cards.slice(CARDS)); more.remove(); } }, `Show ${cards.length - CARDS} more`);
  return el('div', {}, el('h3', {}, title), el('p', { class: 'quiet' }, cards.length ? note : 'None: every candidate was kept.'), list, cards.length > CARDS && el('p', {}, more));
}
function textCard(run, round, i) {
  const c = round.ids[i];
  const next = run.rounds[round.number + 1];
  const born = next ? model(run).children[c].filter((child) => run.born[child] === round.number + 1).length : null;
  const fate = round.rank[i] < 0 ? 'dropped' : born === null ? 'kept' : born ? `kept, ${plural(born, 'child').replace('childs', 'children')}` : 'kept, no children';
  const z = round.count[i] / stderrOf(round, i);
  return el('li', {}, el('div', { class: 'top' }, el('b', {}, estimate({ count: round.count[i], stderr: stderrOf(round, i) })),
    el('span', { class: 'quiet' }, Number.isFinite(z) ? `${z.toFixed(1).replace('-', '−')} s.e.` : ''),
    round.votes && el('span', { class: 'of-truth oracle' }, `true ${whole.format(round.votes[i])}`), el('span', { class: 'end' }, `${fate} · `, el('button', { type: 'button', class: 'link', onclick: () => showOnMap(c) }, 'map'))),
  chips(run, c), mail(run, c),
  run.parents[c].length > 0 && el('div', { class: 'how' }, `${str(run.operator[c])}${changeOf(run, c) ? `: ${changeOf(run, c)}` : ''}`));
}
function showOnMap(c) {
  change({ selected: c });
  byId('map').scrollIntoView({ behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
}
