// Put everything together: restore what was shown, draw, and draw again what a change concerns.

restore();
document.documentElement.classList.toggle('no-oracle', !state.oracle);

onChange(['hidden'], drawMetrics);
onChange(['hidden', 'metric', 'axis', 'oracle'], drawFrontier);
onChange(['run', 'round', 'oracle'], drawPoll);
onChange(['run', 'selected', 'oracle'], drawMap);
onChange(['run'], drawDrift);
onChange(['hidden'], markLegend);
onChange(['oracle'], () => document.documentElement.classList.toggle('no-oracle', !state.oracle));

function markLegend() {
  for (const key of document.querySelectorAll('#overview .key')) key.setAttribute('aria-pressed', String(!state.hidden.includes(Number(key.dataset.group))));
}
for (const mark of document.querySelectorAll('.swatch[data-group], .key > .swatch'))
  mark.style.background = COLORS[Number(mark.dataset.group ?? mark.parentElement.dataset.group)];
for (const key of document.querySelectorAll('#overview .key')) {
  const i = Number(key.dataset.group);
  key.addEventListener('click', () => toggleGroup(i));
  key.addEventListener('mouseenter', () => highlight(i));
  key.addEventListener('mouseleave', () => highlight(null));
}

const oracleSwitch = byId('oracle');
if (oracleSwitch) {
  oracleSwitch.checked = state.oracle;
  oracleSwitch.addEventListener('change', () => {
    const hiddenMetric = DATA.metrics.find((m) => m.name === state.metric && m.oracle);
    const other = DATA.metrics.find((m) => m.better && !m.oracle && m.name === 'none_share') || DATA.metrics.find((m) => !m.oracle);
    change({ oracle: oracleSwitch.checked, ...(hiddenMetric && !oracleSwitch.checked ? { metric: other.name } : {}) });
  });
}

byId('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
});

// The address keeps the state, so links to sections scroll without changing it.
for (const link of document.querySelectorAll('#nav a, .skip')) {
  link.addEventListener('click', (event) => {
    event.preventDefault();
    const section = document.querySelector(link.getAttribute('href'));
    section.scrollIntoView();
    section.setAttribute('tabindex', -1);
    section.focus({ preventScroll: true });
  });
}

const draws = [drawMetrics, drawFrontier, drawPoll, drawMap, drawDrift, drawCost];
draws.forEach((draw) => draw());
markLegend();
let width = innerWidth;
let waiting;
addEventListener('resize', () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; draws.forEach((draw) => draw()); } }, 150);
});
addEventListener('keydown', (event) => { if (event.key === 'Escape') untip(); });

if (DATA.live) setInterval(() => { if (byId('follow').checked) location.reload(); }, 20000);
document.documentElement.dataset.ready = '1';
