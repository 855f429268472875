// Privacy against utility: one point for each configuration, and the best that each budget reached.

const SHAPES = [
  (x, y, r) => svg('circle', { cx: x, cy: y, r }),
  (x, y, r) => svg('rect', { x: x - r * 0.9, y: y - r * 0.9, width: r * 1.8, height: r * 1.8 }),
  (x, y, r) => svg('path', { d: `M${x} ${y - r * 1.2}L${x + r * 1.1} ${y + r * 0.8}H${x - r * 1.1}Z` }),
  (x, y, r) => svg('path', { d: `M${x} ${y - r * 1.3}L${x + r * 1.3} ${y}L${x} ${y + r * 1.3}L${x - r * 1.3} ${y}Z` }),
];

function drawFrontier() {
  const hold = place('frontier');
  const metric = DATA.metrics.find((m) => m.name === state.metric) || DATA.metrics[0];
  const central = GROUPS.some((g) => g.central);
  const budget = (i) => (state.axis === 'central' ? GROUPS[i].central && GROUPS[i].central.epsilon : GROUPS[i].epsilon);
  const shown = visible().filter((i) => budget(i) && metric.last[i]);
  const listed = DATA.metrics.filter((m) => m.better && m.last.some(Boolean) && (state.oracle || !m.oracle));
  if (GROUPS.length === 1) {
    hold.replaceChildren(el('p', { class: 'quiet' }, 'One configuration is one point. A sweep draws the frontier: ', el('code', {}, 'synthpoll run --multirun experiment=… epsilon=1,2,4,8 seed=0,1,2'), ', then ', el('code', {}, 'synthpoll compare SWEEP --to PAGE.html'), '.'));
    return;
  }
  const controls = el('div', { class: 'controls' },
    menu('Utility', listed.map((m) => [m.name, m.title + (m.oracle ? ' (simulation only)' : '')]), metric.name,
      (name) => change({ metric: name })),
    central && choice('Budget', [['local', 'local ε'], ['central', 'central ε']], state.axis, (axis) => change({ axis })),
    badge(metric.oracle));
  const without = visible().length - shown.length;
  const panel = el('div', { class: metric.oracle ? 'panel oracle' : 'panel' });
  hold.replaceChildren(controls, panel);
  if (!shown.length) panel.append(el('p', { class: 'quiet' }, 'No visible configuration has this budget and this metric.'));
  const budgets = new Set(shown.map(budget));
  const width = Math.max(420, hold.clientWidth - 34);
  if (shown.length) panel.append(budgets.size > 1 ? frontierChart(metric, shown, budget, width) : dotChart(metric, shown, width));
  if (shown.length && budgets.size < 2) hold.append(el('p', { class: 'quiet' },
    'One budget only: a sweep over epsilon would draw a frontier.'));
  if (without) hold.append(el('p', { class: 'quiet' }, `${plural(without, 'configuration')} without this budget or metric: not drawn.`));
  if (state.axis === 'central') {
    const said = [...new Set(GROUPS.filter((g) => g.central).map((g) => `δ = ${g.central.delta.toExponential(0)}, ${g.central.model}`))];
    hold.append(el('p', { class: 'quiet' }, `Central budgets hold at ${said.join('; ')}.`));
  }
  if (state.axis === 'local' && metric.best.length) hold.append(bestTable(metric));
}

function frontierChart(metric, shown, budget, width) {
  const height = 360;
  const budgets = [...new Set(shown.map(budget))].sort((a, b) => a - b);
  const [low, high] = extent(shown.flatMap((i) => metric.last[i].slice(1, 3)), 0.14);
  const yTicks = ticks(low, high, 5);
  const left = 62;
  const right = width > 700 ? 190 : 24;
  const x = budgets.length === 1 ? () => (left + width - right) / 2
    : logarithmic(budgets[0], budgets[budgets.length - 1], left + 26, width - right - 26);
  const y = linear(low, high, height - 44, 12);
  const lines = [...new Set(shown.map((i) => GROUPS[i].line))];
  // Points of one budget stand side by side, so that whiskers do not hide each other.
  const dodge = (i) => (lines.length < 2 ? 0 : (lines.indexOf(GROUPS[i].line) - (lines.length - 1) / 2) * Math.min(9, 60 / lines.length));
  const px = (i) => x(budget(i)) + dodge(i);
  const chart = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: 0,
    'aria-label': `${metric.title} by ${state.axis} epsilon: ${shown.map((i) => `${GROUPS[i].label} ${show(metric.last[i][0], metric.form)}`).slice(0, 12).join('; ')}` },
  yTicks.map((t) => [svg('line', { class: 'gridline', x1: left, x2: width - right, y1: y(t), y2: y(t) }),
    svg('text', { x: left - 8, y: y(t) + 4, 'text-anchor': 'end' }, axisText(t, metric, yTicks))]),
  budgets.map((b) => [svg('line', { class: 'axis', x1: x(b), x2: x(b), y1: height - 44, y2: height - 39 }),
    svg('text', { x: x(b), y: height - 26, 'text-anchor': 'middle' }, Number(b.toPrecision(3)))]),
  svg('line', { class: 'axis', x1: left, x2: width - right, y1: height - 44, y2: height - 44 }),
  svg('text', { x: (left + width - right) / 2, y: height - 6, 'text-anchor': 'middle', class: 'strong' },
    state.axis === 'central' ? 'central ε: more privacy to the left' : 'local ε of a device: more privacy to the left'),
  svg('text', { x: left, y: 2, class: 'strong' }, `${metric.title} ${{ up: '(higher is better)', down: '(lower is better)', '': '' }[metric.better]}`));
  if (metric.better) chart.append(bestLine(metric, shown, budget, budgets, x, y));
  for (const line of lines) {
    const along = shown.filter((i) => GROUPS[i].line === line).sort((a, b) => budget(a) - budget(b));
    const color = COLORS[along[along.length - 1]];
    chart.append(svg('path', { d: path(along.map((i) => [px(i), y(metric.last[i][0])])), fill: 'none', stroke: color, 'stroke-width': 1.4,
      'stroke-opacity': 0.7, 'data-line': along.length === 1 ? along[0] : undefined }));
    const end = along[along.length - 1];
    if (right > 100) chart.append(svg('text', { x: px(end) + 12, y: y(metric.last[end][0]) + 4, class: 'strong lineend' }, GROUPS[end].lineLabel.slice(0, 30)));
  }
  for (const i of shown) chart.append(frontierPoint(metric, i, px(i), y, lines.indexOf(GROUPS[i].line)));
  spread(chart.querySelectorAll('.lineend'));
  return chart;
}

function frontierPoint(metric, i, x, y, shape) {
  const [mean, low, high, , seeds] = metric.last[i];
  return pointMark(metric, i, x, y(mean), seeds < 2 ? [] : [svg('line', { x1: x, x2: x, y1: y(low), y2: y(high), 'stroke-width': 1.6 }),
    ...metric.seeds[i].filter((v) => v !== null).map((v) => svg('circle', { cx: x, cy: y(v), r: 2, stroke: 'none' }))], shape);
}

// A configuration's symbol with its whisker; hover or focus tells its numbers.
function pointMark(metric, i, x, y, whisker, shape) {
  const [mean, , , , seeds] = metric.last[i];
  const symbol = SHAPES[shape % SHAPES.length](x, y, 5.5);
  symbol.setAttribute('stroke', 'var(--panel)');
  const mark = svg('g', { 'data-line': i, 'data-point': i, fill: COLORS[i], stroke: COLORS[i], tabindex: 0, role: 'img', 'aria-label': `${GROUPS[i].label}: ${show(mean, metric.form)}` },
    whisker, symbol, svg('circle', { cx: x, cy: y, r: 13, fill: 'transparent', stroke: 'none' }));
  const tell = (event) => tip(event, el('b', {}, GROUPS[i].label), pair(null, metric.title, show(mean, metric.form)),
    seeds > 1 ? GROUPS[i].seeds.map((seed, s) => pair(null, `seed ${seed}`, show(metric.seeds[i][s], metric.form))) : pair(null, 'seeds', 1),
    pair(null, 'local ε', GROUPS[i].epsilon ?? 'none'), GROUPS[i].central && pair(null, 'central ε', Number(GROUPS[i].central.epsilon.toPrecision(3))),
    metric.oracle && el('div', { class: 'of-truth' }, 'simulation only'));
  for (const name of ['mousemove', 'focus']) mark.addEventListener(name, tell);
  for (const name of ['mouseleave', 'blur']) mark.addEventListener(name, untip);
  return mark;
}

// With one budget there is no frontier: configurations below each other, best first.
function dotChart(metric, shown, width) {
  const order = shown.slice().sort((a, b) => (metric.better === 'down' ? 1 : -1) * (metric.last[a][0] - metric.last[b][0]));
  const left = Math.min(330, 20 + 6.6 * Math.max(...order.map((i) => GROUPS[i].label.length)));
  const height = 46 + 28 * order.length;
  const [low, high] = extent(shown.flatMap((i) => metric.last[i].slice(1, 3)), 0.14);
  const xTicks = ticks(low, high, 6);
  const x = linear(low, high, left, width - 60);
  const chart = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${metric.title}: ${order.map((i) => `${GROUPS[i].label} ${show(metric.last[i][0], metric.form)}`).join('; ')}` },
    xTicks.map((t) => [svg('line', { class: 'gridline', x1: x(t), x2: x(t), y1: 0, y2: height - 38 }), svg('text', { x: x(t), y: height - 22, 'text-anchor': 'middle' }, axisText(t, metric, xTicks))]),
    svg('text', { x: (left + width - 60) / 2, y: height - 3, 'text-anchor': 'middle', class: 'strong' }, `${metric.title} ${{ up: '(higher is better)', down: '(lower is better)', '': '' }[metric.better]}`));
  order.forEach((i, k) => {
    const y = 16 + 28 * k;
    const [mean, from, to, , seeds] = metric.last[i];
    chart.append(svg('text', { x: left - 14, y: y + 4, 'text-anchor': 'end' }, GROUPS[i].label.slice(0, 48)), pointMark(metric, i, x(mean), y,
      seeds > 1 ? [svg('line', { x1: x(from), x2: x(to), y1: y, y2: y, 'stroke-width': 1.6 }), ...metric.seeds[i].filter((v) => v !== null).map((v) => svg('circle', { cx: x(v), cy: y, r: 2, stroke: 'none' }))] : [], 0),
    svg('text', { x: x(Math.max(mean, to)) + 12, y: y + 4, class: 'strong' }, show(mean, metric.form)));
  });
  return chart;
}

// What is reachable with at most this budget: a broad, pale staircase behind the points.
function bestLine(metric, shown, budget, budgets, x, y) {
  const better = (a, b) => (metric.better === 'up' ? a > b : a < b);
  let best = null;
  const points = [];
  for (const b of budgets) {
    const here = shown.filter((i) => budget(i) === b).map((i) => metric.last[i][0]).reduce((u, v) => (better(v, u) ? v : u));
    if (best !== null) points.push([x(b), y(best)]);
    if (best === null || better(here, best)) best = here;
    points.push([x(b), y(best)]);
  }
  return svg('path', { d: path(points), fill: 'none', stroke: 'var(--accent)', 'stroke-width': 9, 'stroke-opacity': 0.16,
    'stroke-linejoin': 'round', 'stroke-linecap': 'round' });
}

// Labels at line ends must not overlap: push them apart from top to bottom.
function spread(labels) {
  let last = -Infinity;
  for (const label of [...labels].sort((a, b) => a.getAttribute('y') - b.getAttribute('y'))) {
    last = Math.max(Number(label.getAttribute('y')), last + 14);
    label.setAttribute('y', last);
  }
}

function bestTable(metric) {
  return el('div', { class: 'scroll', tabindex: 0 }, el('table', {},
    el('thead', {}, el('tr', {}, ['local ε', 'best configuration', metric.title, 'how sure'].map((t, i) =>
      el('th', { scope: 'col', class: i === 2 || i === 0 ? 'number' : '' }, t)))),
    el('tbody', {}, metric.best.map(([epsilon, i, close, others]) => {
      const [mean, low, high, , seeds] = metric.last[i];
      const sure = !others ? 'the only one at this ε' : seeds < 2 ? 'one seed: differences may be chance'
        : close.length ? `not clearly apart from ${close.map((j) => GROUPS[j].label).join('; ')}` : 'its seeds are apart from all others';
      return el('tr', {}, el('td', { class: 'number' }, epsilon), el('td', {}, swatch(COLORS[i]), ' ', GROUPS[i].label),
        el('td', { class: 'number' }, show(mean, metric.form), seeds > 1 && el('small', {}, between(low, high, metric.form))),
        el('td', { class: 'quiet' }, sure));
    }))));
}
