// What all drawings share: elements, scales, numbers, colours, the tooltip, and the state that the page is in.
// Texts reach the page through textContent alone: a text that looks like HTML is shown as it is.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read('data');
const TIMINGS = read('timings');
const GROUPS = DATA.groups;
const str = (i) => DATA.strings[i];
const byId = (id) => document.getElementById(id);
const place = (id) => document.querySelector(`#${id} > .drawn`);

function add(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'color') node.style.setProperty('--dot', value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}
const el = (name, attributes, ...children) => add(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) =>
  add(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);

// ---- numbers

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
function show(value, form) {
  if (value === null || value === undefined) return '';
  if (form === 'bytes') return bytes(value);
  const text = form === 'percent' ? `${(100 * value).toFixed(1)}%`
    : form === 'count' ? (Math.abs(value) >= 100 || Number.isInteger(value) ? whole.format(value) : value.toFixed(1))
      : Math.abs(value) < 100 ? value.toFixed(3) : whole.format(value);
  return text.replace('-', '−');
}
const between = (low, high, form) => `${show(low, form).replace(/%$/, '')}–${show(high, form)}`;
function bytes(value) {
  for (const [unit, scale] of [['MB', 1e6], ['kB', 1e3]])
    if (value >= scale) return `${Number((value / scale).toPrecision(3))} ${unit}`;
  return `${Math.round(value)} B`;
}
const votes = (value) => (Math.abs(value) >= 100 ? whole.format(value) : value.toFixed(1).replace('-', '−'));
const plural = (count, noun) => `${whole.format(count)} ${noun}${count === 1 ? '' : 's'}`;

// ---- scales

const linear = (from, to, low, high) => (x) => low + ((x - from) / (to - from || 1)) * (high - low);
const logarithmic = (from, to, low, high) => {
  const inner = linear(Math.log(from), Math.log(to), low, high);
  return (x) => inner(Math.log(x));
};
function ticks(low, high, wanted) {
  const raw = (high - low || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let x = Math.ceil(low / step - 1e-9) * step; x <= high + step * 1e-9; x += step) found.push(Number(x.toPrecision(12)));
  // One line alone says nothing about the scale.
  return found.length < 2 && wanted < 9 ? ticks(low, high, wanted + 1) : found;
}
const atMost = (value) => { // the largest 1, 2 or 5 times a power of ten
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [5, 2, 1].find((m) => m * power <= value * 1.001);
};
function extent(values, margin = 0.08) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * margin;
  if (low >= 0 && low - room < 0) low = 0; else low -= room;
  return [low, high + room];
}

// ---- colours: a hue for each line of a sweep, its strength the budget; one line alone runs through hues

const RAMP = ['#3b4a8f', '#2f6f9f', '#2a8f93', '#3fa872', '#8dbb45', '#e0b23a', '#e8893c', '#d4553f'];
function mix(position) {
  const at = Math.max(0, Math.min(1, position)) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  return `color-mix(in oklab, ${RAMP[i + 1]} ${Math.round(100 * (at - i))}%, ${RAMP[i]})`;
}
const roundColor = (number, rounds) => (rounds < 2 ? mix(0.2) : mix(0.02 + (0.96 * number) / (rounds - 1)));
const COLORS = (() => {
  const lines = [...new Set(GROUPS.map((g) => g.line))];
  if (lines.length === GROUPS.length) return GROUPS.map((g, i) => `var(--c${i % 10})`);
  return GROUPS.map((group) => {
    const along = GROUPS.filter((g) => g.line === group.line).sort((a, b) => (a.epsilon ?? 99) - (b.epsilon ?? 99));
    const position = along.length < 2 ? 1 : along.indexOf(group) / (along.length - 1);
    if (lines.length === 1) return mix(position);
    const strength = Math.round(48 + 52 * position);
    return `color-mix(in oklab, var(--c${lines.indexOf(group.line) % 10}) ${strength}%, var(--bg))`;
  });
})();

// ---- the state of the page, kept in the address so that a reload (a run that is watched) shows the same

const state = { run: 0, round: null, hidden: [], oracle: true, metric: null, axis: 'local', selected: null };
const listeners = [];
const onChange = (keys, draw) => listeners.push([keys, draw]);
function change(values) {
  Object.assign(state, values);
  const changed = Object.keys(values);
  for (const [keys, draw] of listeners) if (keys.some((key) => changed.includes(key))) draw();
  const kept = { run: state.run, round: state.round, metric: state.metric, axis: state.axis, oracle: state.oracle ? 1 : 0,
    hidden: state.hidden.join('.'), selected: state.selected };
  const parts = Object.entries(kept).filter(([, v]) => v !== null && v !== '').map(([k, v]) => `${k}=${encodeURIComponent(v)}`);
  history.replaceState(null, '', `#${parts.join('&')}`);
}
function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (name, below) => {
    const value = given.get(name) === null ? NaN : Number(given.get(name));
    return Number.isInteger(value) && value >= 0 && value < below ? value : null;
  };
  state.run = number('run', DATA.runs.length) ?? DATA.runs.findIndex((run) => run.rounds);
  if (!DATA.runs[state.run].rounds) state.run = DATA.runs.findIndex((run) => run.rounds);
  const last = DATA.runs[state.run].rounds.length;
  state.round = number('round', last);
  state.selected = number('selected', DATA.runs[state.run].text.length);
  state.oracle = given.get('oracle') !== '0';
  state.axis = given.get('axis') === 'central' || GROUPS.every((g) => g.epsilon === null) ? 'central' : 'local';
  state.metric = DATA.metrics.some((m) => m.name === given.get('metric')) ? given.get('metric') : DATA.by.name;
  state.hidden = (given.get('hidden') || '').split('.').filter(Boolean).map(Number).filter((i) => i < GROUPS.length);
}
const visible = () => GROUPS.map((_, i) => i).filter((i) => !state.hidden.includes(i));

// ---- tooltip and what is said to a screen reader

function tip(event, ...content) {
  const box = byId('tip');
  box.replaceChildren(...content.flat(3).filter(Boolean));
  box.hidden = false;
  const anchor = event.clientX === undefined || event.type.startsWith('key') ? event.target.getBoundingClientRect() : null;
  const x = anchor ? anchor.left + anchor.width / 2 : event.clientX;
  const y = anchor ? anchor.top + 40 : event.clientY;
  const { width, height } = box.getBoundingClientRect();
  const left = x + 18 + width > innerWidth ? Math.max(8, x - width - 18) : x + 18;
  const top = Math.max(8, Math.min(y + 16, innerHeight - height - 8));
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
}
const untip = () => { byId('tip').hidden = true; };
const say = (text) => { byId('said').textContent = text; };

// ---- parts that several sections use

const swatch = (color) => {
  const mark = el('i', { class: 'swatch' });
  mark.style.background = color;
  return mark;
};
const badge = (oracle) => el('span', { class: oracle ? 'badge oracle' : 'badge' }, oracle ? 'simulation only' : 'released');
function choice(legend, options, chosen, onchange) {
  const name = `choice-${legend.replace(/\W+/g, '-')}-${Math.random().toString(36).slice(2, 7)}`;
  return el('fieldset', { class: 'seg' }, el('legend', {}, legend), options.map(([value, text]) =>
    el('label', {}, el('input', { type: 'radio', name, value, checked: value === chosen, onchange: () => onchange(value) }),
      el('span', {}, text))));
}
function menu(label, options, chosen, onchange) {
  const select = el('select', { onchange: () => onchange(select.value) }, options.map(([value, text]) =>
    el('option', { value, selected: String(value) === String(chosen) }, text)));
  return el('label', {}, label, select);
}
const pair = (color, name, value) => el('div', { class: 'row' }, color && swatch(color), el('span', {}, name), el('b', {}, value));
