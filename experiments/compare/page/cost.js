// What a poll costs one device, and where a run's time went.

function drawCost() {
  const hold = place('cost');
  const range = (values, form) => {
    const [low, high] = [form(Math.min(...values)), form(Math.max(...values))];
    return low === high ? low : `${low} – ${high}`;
  };
  const rows = GROUPS.map((group, i) => {
    const { down, up, bits, reports } = DATA.cost[i];
    if (!down.length) return null;
    const known = bits.every((b) => b !== null);
    const device = deviceTime(i);
    return el('tr', {}, el('td', {}, GROUPS.length > 1 && [swatch(COLORS[i]), ' '], group.label), el('td', { class: 'number' }, range(down, bytes)),
      el('td', { class: 'number' }, range(up, bytes)), el('td', { class: 'number' }, known ? range(bits, (b) => whole.format(b)) : range(up, (b) => `≤ ${whole.format(8 * b)}`)),
      el('td', { class: 'number' }, device === null ? 'not timed apart' : `${device.toPrecision(3)} ms`), el('td', { class: 'number' }, range(reports, whole.format)));
  });
  const head = ['configuration', 'download', 'upload', 'bits of a report', 'time of one device', 'reports of a poll'];
  hold.replaceChildren(el('p', { class: 'note' }, 'One device, one poll: it downloads the slate as int8, answers, and uploads one report. Time is what this simulation needed, shared out over the devices.'),
    el('div', { class: 'scroll', tabindex: 0 }, el('table', {}, el('thead', {}, el('tr', {}, head.map((name, i) => el('th', { scope: 'col', class: i ? 'number' : '' }, name)))),
      el('tbody', {}, rows.filter(Boolean)))), timeTable());
}

// Milliseconds of one device in one poll: the stages that only devices do, whose names start with 'poll'.
function deviceTime(group) {
  let seconds = 0;
  let reports = 0;
  DATA.runs.forEach((run, i) => {
    if (run.group !== group) return;
    const polls = TIMINGS[i].filter(([, arm, stage]) => arm === null && stage.startsWith('poll'));
    for (const [round, , , of] of polls) { seconds += of; reports += (run.polls[round] || [0])[0]; }
  });
  return reports ? (1000 * seconds) / reports : null;
}

function timeTable() {
  const stages = [...new Set(TIMINGS.flat().filter(([, arm]) => arm === null).map(([, , stage]) => stage))];
  if (!stages.length) return '';
  const total = (i, stage) => TIMINGS[i].filter(([, arm, s]) => arm === null && s === stage).reduce((sum, t) => sum + t[3], 0);
  const seconds = (s) => (s >= 90 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${s < 10 ? s.toFixed(1) : Math.round(s)} s`);
  return el('details', { open: DATA.runs.length === 1 }, el('summary', {}, 'Where the time of the runs went'), el('div', { class: 'scroll', tabindex: 0 }, el('table', {},
    el('thead', {}, el('tr', {}, ['run', ...stages, 'all'].map((name, i) => el('th', { scope: 'col', class: i ? 'number' : '' }, name)))),
    el('tbody', {}, DATA.runs.map((run, i) => el('tr', {}, el('td', {}, GROUPS.length > 1 ? `${GROUPS[run.group].label}, seed ${run.seed}` : `seed ${run.seed}`),
      stages.map((stage) => el('td', { class: 'number' }, seconds(total(i, stage)))),
      el('td', { class: 'number' }, el('b', {}, seconds(stages.reduce((sum, stage) => sum + total(i, stage), 0))))))))));
}
