// What the corpus turned into: words and topics that rose and fell, which changes were liked, and the line of each family.

const LISTED = 14;
let search = '';

function drawDrift() {
  const hold = place('drift');
  const run = DATA.runs[state.run];
  const found = el('div', { class: 'families' });
  const box = el('input', { type: 'search', placeholder: 'e.g. tennis', value: search, 'aria-label': 'Find families by a word',
    oninput: () => { search = box.value; fill(); } });
  const heading = el('p', { class: 'quiet' });
  const fill = () => {
    const listed = families(run, search.trim().toLowerCase());
    heading.textContent = search.trim()
      ? `${plural(listed.length, 'seed text')} with “${search.trim()}” in text, subject or topic; ${listed.filter((f) => f.now.length).length} of them have descendants in the last slate.`
      : 'Each seed text with its descendants; those with the largest share of the last slate first.';
    found.replaceChildren(...listed.slice(0, LISTED).map((family) => familyRow(run, family)),
      ...(listed.length > LISTED ? [el('p', { class: 'quiet' }, `and ${plural(listed.length - LISTED, 'more family').replace('familys', 'families')}`)] : []));
  };
  fill();
  hold.replaceChildren(el('div', { class: 'controls' }, runMenu()),
    el('div', { class: 'drift' }, trendPanel('Topics', run.topics, run), trendPanel('Words', run.words, run)),
    swapPanel(run),
    el('div', { class: 'panel' }, el('h3', {}, 'What became of it'), heading, el('div', { class: 'controls' }, el('label', {}, 'Find ', box)), found));
}

function trendPanel(title, trends, run) {
  const half = (wanted) => trends.filter(([, shares]) => wanted * (shares[shares.length - 1] - shares[0]) > 0).sort((a, b) =>
    wanted * (b[1][b[1].length - 1] - b[1][0] - a[1][a[1].length - 1] + a[1][0]));
  const table = (name, className, rows) => el('div', {}, el('h4', { class: className }, name), rows.length ? el('table', { class: 'trend' }, el('tbody', {}, rows.map(([term, shares]) =>
    el('tr', {}, el('td', { dir: 'auto' }, term), el('td', {}, spark(term, shares, className)),
      el('td', { class: 'number' }, `${show(shares[0], 'percent')} → `, el('b', {}, show(shares[shares.length - 1], 'percent'))))))) : el('p', { class: 'quiet' }, 'none'));
  return el('div', { class: 'panel' }, el('h3', {}, title), el('p', { class: 'quiet' }, `Share of the slate, round 0 to round ${run.rounds[run.rounds.length - 1].number}.`),
    el('div', {}, table('Rising', 'up', half(1).slice(0, 8)), table('Falling', 'down', half(-1).slice(0, 8))));
}
function spark(term, shares, className) {
  const x = linear(0, shares.length - 1, 2, 82);
  const y = linear(0, Math.max(...shares), 20, 2);
  const line = svg('svg', { viewBox: '0 0 84 22', role: 'img', class: className, 'aria-label': shares.map((s) => show(s, 'percent')).join(', ') },
    svg('path', { d: path(shares.map((s, i) => [x(i), y(s)])), fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6, 'stroke-linejoin': 'round' }),
    svg('circle', { cx: x(shares.length - 1), cy: y(shares[shares.length - 1]), r: 2.2, fill: 'currentColor' }));
  line.addEventListener('mousemove', (event) => tip(event, el('b', {}, term), shares.map((s, i) => pair(null, `round ${i}`, show(s, 'percent')))));
  line.addEventListener('mouseleave', untip);
  return line;
}

// Operators and swaps: mean votes of parents and of their children show whether devices liked the change.
function swapPanel(run) {
  const row = (cells, [, , , children, kept, parentVotes, childVotes, stderr]) => el('tr', {}, cells, el('td', { class: 'number' }, whole.format(children)),
    el('td', { class: 'number' }, votes(parentVotes)), el('td', { class: 'number' }, el('b', {}, votes(childVotes)), ` ± ${votes(stderr)}`),
    el('td', { class: 'number' }, show(kept / children, 'percent')));
  const head = (names) => el('thead', {}, el('tr', {}, [...names, 'children', 'votes of parents', 'of children', 'kept'].map((name, i) =>
    el('th', { scope: 'col', class: i >= names.length ? 'number' : '' }, name))));
  if (!run.operators.length) return el('p', { class: 'quiet' }, 'No child has been polled yet: what changes were worth shows after the second poll.');
  const body = el('tbody', {}, run.swaps.slice(0, 8).map((swap) => row(swapCells(swap), swap)));
  const more = run.swaps.length > 8 && el('button', { type: 'button', onclick: () => { body.append(...run.swaps.slice(8).map((swap) => row(swapCells(swap), swap))); more.remove(); } },
    `Show ${run.swaps.length - 8} more`);
  return el('div', { class: 'panel' }, el('h3', {}, 'Which changes the devices liked'),
    el('p', { class: 'quiet' }, 'Mean estimated votes of parents when they won, and of their children in their first poll (± what privacy noise adds), the clearest first. Winners were picked for high counts, some of it luck, so children tend to have fewer.'),
    el('div', { class: 'scroll', tabindex: 0 }, el('table', {}, head(['how it was made']), el('tbody', {}, run.operators.map((s) => row([el('td', {}, s[2].replace(/_/g, ' '))], s))))),
    run.swaps.length > 0 && el('div', { class: 'scroll', tabindex: 0 }, el('table', {}, head(['attribute', 'from', 'to']), body)), more);
}
const swapCells = ([name, before, after]) => [el('td', { class: 'quiet' }, name.replace(/_/g, ' ')), el('td', { dir: 'auto' }, before || '–'), el('td', { dir: 'auto' }, after || '–')];

function families(run, wanted) {
  const last = run.rounds[run.rounds.length - 1];
  const weight = new Map(last.ids.map((c, i) => [c, last.weight ? last.weight[i] : Math.max(0, last.count[i])]));
  const total = [...weight.values()].reduce((a, b) => a + b, 0) || 1;
  const members = new Map();
  run.family.forEach((root, c) => { if (!members.has(root)) members.set(root, []); members.get(root).push(c); });
  const found = [...members].map(([root, all]) => {
    const now = all.filter((c) => weight.has(c)).sort((a, b) => weight.get(b) - weight.get(a));
    return { root, all, now, share: now.reduce((sum, c) => sum + weight.get(c), 0) / total };
  });
  const matches = (c) => `${str(run.text[c])} ${str(run.subject[c])} ${topicOf(run, c)}`.toLowerCase().includes(wanted);
  return found.filter((f) => (wanted ? matches(f.root) : f.now.length)).sort((a, b) => b.share - a.share || b.all.length - a.all.length);
}

function familyRow(run, family) {
  const counted = new Map();
  for (const c of family.now) counted.set(headline(run, c), (counted.get(headline(run, c)) || 0) + 1);
  const same = counted.size === 1 && counted.has(headline(run, family.root));
  const became = same ? 'the same topic' : [...counted].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, n]) => (n > 1 ? `${name} ×${n}` : name)).join(', ');
  const fresh = family.now.length ? run.newWords[family.root] || [] : [];
  const end = run.rounds[Math.max(...family.all.flatMap((c) => model(run).polls[c].map((p) => p.number)))];
  const fate = family.now.length ? [' → ', became] : [` died out after poll ${end.number + 1}`];
  const details = el('details', {}, el('summary', {}, el('span', {}, el('b', {}, headline(run, family.root)), fate, fresh.length > 0 && el('span', { class: 'quiet' }, `, new words: ${fresh.join(', ')}`)),
    el('span', { class: 'quiet' }, family.now.length ? `${plural(family.now.length, 'text')}, ${show(family.share, 'percent')}` : plural(family.all.length, 'text'))));
  details.addEventListener('toggle', () => {
    if (!details.open || details.children.length > 1) return;
    const longest = (family.now.length ? family.now : family.all).reduce((a, b) => (ancestors(run, b).length > ancestors(run, a).length ? b : a));
    details.append(lineSteps(run, longest, showOnMap), el('p', {}, el('button', { type: 'button', onclick: () => showOnMap(longest) }, 'Show on the map')));
  });
  return details;
}
