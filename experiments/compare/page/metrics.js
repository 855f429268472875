// Round after round: one small chart for each metric, released ones first, simulation-only ones apart.

const FIRST = ['over_threshold', 'none_share', 'self_similarity', 'topics', 'families', 'largest_count', 'stderr', 'votes_per_candidate', 'similarity', 'coverage',
  'recall', 'precision', 'rank_correlation', 'vote_mass_kept', 'error_in_stderr'];
const ARMS = { no_privacy: 'no privacy (ceiling)', random_selection: 'random selection (floor)' };
const ARROWS = { up: '↑ better', down: '↓ better', '': '' };

function drawMetrics() {
  const hold = place('metrics');
  const width = Math.max(230, Math.min(400, (hold.clientWidth - 3 * 14) / 4 - 30));
  const parts = [legend()];
  for (const oracle of [false, true]) {
    const all = DATA.metrics.filter((m) => m.oracle === oracle && m.series.some((s) => s.length));
    if (!all.length) continue;
    const main = all.filter((m) => FIRST.includes(m.name) || m.name.startsWith('fid_pca'));
    const rest = all.filter((m) => !main.includes(m));
    parts.push(el('div', { class: oracle ? 'oracle-part' : '' },
      el('div', { class: 'part' }, badge(oracle), el('p', {}, oracle
        ? 'Noise-free truth and real items: a deployment has none of this.'
        : 'What the server knows: estimates from private reports, and its own texts.')),
      oracle && armsKey(all),
      el('div', { class: 'grid' }, main.map((m) => metricCard(m, width))),
      rest.length > 0 && el('details', {}, el('summary', {}, `${plural(rest.length, 'more metric')}`),
        el('div', { class: 'grid' }, rest.map((m) => metricCard(m, width))))));
  }
  parts.push(metricTable());
  hold.replaceChildren(...parts);
}

// Runs beside the run: dashed lines, drawn where one configuration is in sight.
function armsKey(metrics) {
  const names = visible().length === 1 ? Object.keys(Object.assign({}, ...metrics.map((m) => m.arms[visible()[0]]))) : [];
  return names.length > 0 && el('div', { class: 'legend quiet' }, names.map((name) => {
    const line = svg('svg', { viewBox: '0 0 34 8', 'aria-hidden': 'true' }, svg('line', { x1: 1, x2: 33, y1: 4, y2: 4, ...dashes(name) }));
    line.style.cssText = 'width:34px;display:inline-block';
    return el('span', {}, line, ` ${ARMS[name] || name}`);
  }));
}
const dashes = (name) => ({ stroke: 'var(--faint)', 'stroke-width': 1.6, 'stroke-linecap': 'round', 'stroke-dasharray': name === 'no_privacy' ? '5 4' : '1 4' });

function legend() {
  if (GROUPS.length < 2) return '';
  return el('div', { class: 'legend', role: 'group', 'aria-label': 'Configurations, show or hide' }, GROUPS.map((group, i) =>
    el('button', { type: 'button', class: 'key', 'data-group': i, 'aria-pressed': String(!state.hidden.includes(i)),
      onclick: () => toggleGroup(i), onmouseenter: () => highlight(i), onmouseleave: () => highlight(null),
      onfocus: () => highlight(i), onblur: () => highlight(null) }, swatch(COLORS[i]), group.label)));
}
function toggleGroup(i) {
  const hidden = state.hidden.includes(i) ? state.hidden.filter((j) => j !== i) : [...state.hidden, i];
  change({ hidden: hidden.length < GROUPS.length ? hidden : [] });
  const button = document.querySelector(`#metrics .legend [data-group="${i}"]`);
  if (button && document.activeElement === document.body) button.focus();
}
function highlight(i) {
  for (const line of document.querySelectorAll('[data-line]'))
    for (const [name, of] of [['faded', i !== null && Number(line.dataset.line) !== i], ['lit', Number(line.dataset.line) === i]])
      line.classList.toggle(name, of);
}

function metricCard(metric, width) {
  return el('article', { class: metric.oracle ? 'card oracle' : 'card' },
    el('header', {}, el('h3', {}, metric.title), el('span', {}, ARROWS[metric.better])),
    el('p', {}, metric.meaning), lineChart(metric, width, 150));
}

function lineChart(metric, width, height) {
  const shown = visible();
  const lines = shown.map((i) => [i, metric.series[i]]).filter(([, points]) => points.length);
  if (!lines.length) return el('p', {}, 'hidden');
  const arms = GROUPS.length === 1 || shown.length === 1 ? Object.entries(metric.arms[shown[0]] || {}) : [];
  const points = lines.flatMap(([, p]) => p);
  const rounds = [...new Set([...points, ...arms.flatMap(([, p]) => p)].map((p) => p[0]))].sort((a, b) => a - b);
  const [low, high] = extent([...points.flatMap((p) => [p[1], p[2], p[3]]), ...arms.flatMap(([, p]) => p.map((q) => q[1]))]);
  const fine = ticks(low, high, 3.4);
  const integers = fine.filter(Number.isInteger);
  const yTicks = metric.form === 'count' && integers.length > 1 ? integers : fine;
  const left = 8 + 6.4 * Math.max(...yTicks.map((t) => axisText(t, metric, yTicks).length));
  // A single line says its last value itself; those of many would overlap.
  const alone = lines.length === 1;
  const right = alone ? 14 + 6.6 * show(lines[0][1][lines[0][1].length - 1][1], metric.form).length : 12;
  const x = linear(rounds[0], rounds[rounds.length - 1], left, width - right);
  const y = linear(low, high, height - 22, 8);
  const at = rounds.length === 1 ? () => (left + width - right) / 2 : x;
  const chart = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: 0, 'aria-label': lineSummary(metric, lines) },
    yTicks.map((t) => [svg('line', { class: 'gridline', x1: left, x2: width - right, y1: y(t), y2: y(t) }),
      svg('text', { x: left - 6, y: y(t) + 4, 'text-anchor': 'end' }, axisText(t, metric, yTicks))]),
    rounds.filter((r) => rounds.length < 9 || r % 2 === 0).map((r) =>
      svg('text', { x: at(r), y: height - 5, 'text-anchor': 'middle' }, r)));
  const guide = svg('line', { class: 'guide', y1: 8, y2: height - 22, visibility: 'hidden' });
  chart.append(guide);
  for (const [name, p] of arms) {
    chart.append(svg('path', { d: path(p.map((q) => [at(q[0]), y(q[1])])), fill: 'none', ...dashes(name) }));
  }
  for (const [i, p] of lines) {
    const mark = svg('g', { 'data-line': i, stroke: COLORS[i], fill: COLORS[i] });
    if (p.some((q) => q[5] > 1)) {
      const band = [...p.map((q) => [at(q[0]), y(q[3])]), ...p.slice().reverse().map((q) => [at(q[0]), y(q[2])])];
      mark.append(svg('path', { d: `${path(band)}Z`, class: 'band', 'fill-opacity': lines.length > 4 ? 0.06 : lines.length > 2 ? 0.1 : 0.16 }));
    }
    mark.append(svg('path', { d: path(p.map((q) => [at(q[0]), y(q[1])])), fill: 'none', 'stroke-width': 2, 'stroke-linejoin': 'round' }));
    mark.append(...p.map((q) => svg('circle', { cx: at(q[0]), cy: y(q[1]), r: 2.6, stroke: 'none' })));
    chart.append(mark);
    const end = p[p.length - 1];
    if (alone) chart.append(svg('text', { class: 'strong', x: at(end[0]) + 7, y: y(end[1]) + 4 }, show(end[1], metric.form)));
  }
  const point = (event, number) => {
    guide.setAttribute('x1', at(number)); guide.setAttribute('x2', at(number)); guide.setAttribute('visibility', 'visible');
    tip(event, lineTip(metric, lines, arms, number));
  };
  const leave = () => { guide.setAttribute('visibility', 'hidden'); untip(); };
  let current = rounds.length - 1;
  chart.addEventListener('mousemove', (event) => {
    const box = chart.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * width;
    current = rounds.reduce((best, r, i) => (Math.abs(at(r) - px) < Math.abs(at(rounds[best]) - px) ? i : best), 0);
    point(event, rounds[current]);
  });
  chart.addEventListener('mouseleave', leave);
  chart.addEventListener('blur', leave);
  chart.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    current = Math.max(0, Math.min(rounds.length - 1, current + step));
    point(event, rounds[current]);
    say(byId('tip').innerText);
  });
  return chart;
}
const path = (points) => points.map(([px, py], i) => `${i ? 'L' : 'M'}${px.toFixed(1)} ${py.toFixed(1)}`).join('');

function axisText(value, metric, all) {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : Math.abs(value) || 1;
  if (metric.form === 'percent') return `${(100 * value).toFixed(decimals(100 * step))}%`;
  if (metric.form === 'bytes') return bytes(value);
  return Math.abs(value) >= 1000 ? whole.format(value) : value.toFixed(decimals(step));
}
const decimals = (step) => [0, 1, 2, 3, 4].find((d) => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6) ?? 5;

function lineTip(metric, lines, arms, number) {
  const rows = lines.map(([i, p]) => [i, p.find((q) => q[0] === number)]).filter(([, q]) => q);
  rows.sort((a, b) => b[1][1] - a[1][1]);
  return [el('b', {}, `${metric.title}, ${slateName(number)}`), rows.map(([i, q]) => {
    const spread = q[5] > 1 ? ` (${between(q[2], q[3], metric.form)}, ${q[5]} seeds)` : '';
    return pair(COLORS[i], GROUPS[i].label, show(q[1], metric.form) + spread);
  }), arms.map(([name, p]) => p.find((q) => q[0] === number) &&
    pair('var(--faint)', ARMS[name] || name, show(p.find((q) => q[0] === number)[1], metric.form))),
  metric.oracle && el('div', { class: 'of-truth' }, 'simulation only')];
}
const slateName = (number) => (number ? `slate after ${plural(number, 'poll')}` : 'first slate');
function lineSummary(metric, lines) {
  const said = lines.map(([i, p]) => `${GROUPS[i].label} from ${show(p[0][1], metric.form)} to ${show(p[p.length - 1][1], metric.form)}`);
  return `${metric.title} by number of polls: ${said.slice(0, 6).join('; ')}. Arrow keys read the values.`;
}

// The same numbers for those who would rather read a table.
function metricTable() {
  const details = el('details', {}, el('summary', {}, 'All numbers as a table'));
  details.addEventListener('toggle', () => {
    if (!details.open || details.children.length > 1) return;
    const rounds = [...new Set(DATA.metrics.flatMap((m) => m.series.flat().map((p) => p[0])))].sort((a, b) => a - b);
    details.append(el('div', { class: 'scroll', tabindex: 0 }, el('table', {},
      el('thead', {}, el('tr', {}, ['metric', 'configuration', ...rounds.map((r) => `after ${r}`)].map((t, i) =>
        el('th', { scope: 'col', class: i > 1 ? 'number' : '' }, t)))),
      el('tbody', {}, DATA.metrics.flatMap((m) => m.series.map((p, i) => p.length > 0 &&
        el('tr', { class: m.oracle ? 'oracle' : '' }, el('th', { scope: 'row' }, m.title, ' ', m.oracle && badge(true)), el('td', {}, GROUPS[i].label),
          rounds.map((r) => el('td', { class: 'number' }, show((p.find((q) => q[0] === r) || [])[1], m.form))))))))));
  });
  return details;
}
