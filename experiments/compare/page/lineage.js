// Who came from whom: a run's candidates with their polls, parents and children, and the line of one text.

const models = new Map();
function model(run = DATA.runs[state.run]) {
  if (!models.has(run)) {
    const polls = run.text.map(() => []);
    for (const round of run.rounds)
      round.ids.forEach((c, i) => polls[c].push(round.count
        ? { number: round.number, count: round.count[i], stderr: round.stderr[round.stderr.length > 1 ? i : 0], rank: round.rank[i], votes: round.votes && round.votes[i] }
        : { number: round.number, weight: round.weight[i] }));
    const children = run.text.map(() => []);
    run.parents.forEach((parents, c) => parents.forEach((p) => children[p].push(c)));
    models.set(run, { run, polls, children, rounds: run.rounds.length });
  }
  return models.get(run);
}

const lastPoll = (polls) => polls.filter((p) => p.count !== undefined).pop();
const topicOf = (run, c) => (run.attributes.topic ? str(run.attributes.topic[c]) : '');
const headline = (run, c) => topicOf(run, c) || str(run.subject[c]) || str(run.text[c]).slice(0, 60);
const estimate = (poll) => `${votes(poll.count)} ± ${poll.stderr < 10 ? poll.stderr.toFixed(1) : whole.format(poll.stderr)}`;
const threshold = () => GROUPS[DATA.runs[state.run].group].threshold;
const standsOut = (poll) => poll && poll.count !== undefined && poll.count >= threshold() * poll.stderr;

function mail(run, c, longest) {
  const text = str(run.text[c]);
  const shown = longest && text.length > longest ? `${text.slice(0, longest).replace(/\s\S*$/, '')} …` : text;
  return el('div', { class: 'mail', dir: 'auto' }, str(run.subject[c]) && [el('b', {}, str(run.subject[c])), '\n'], shown);
}
function chips(run, c, without = []) {
  const names = Object.keys(run.attributes).filter((name) => str(run.attributes[name][c]) && !without.includes(name));
  names.sort((a, b) => (b === 'topic') - (a === 'topic'));
  return el('div', { class: 'chips' }, names.map((name) =>
    el('span', { class: name === 'topic' ? 'chip topic' : 'chip', title: name.replace(/_/g, ' ') }, str(run.attributes[name][c]))));
}

// What made this text: the recorded change, or, for runs that did not record it, the attributes that differ.
function changeOf(run, c) {
  const recorded = str(run.change[c]);
  const parent = run.parents[c][0];
  if (recorded || parent === undefined) return recorded;
  return Object.keys(run.attributes).map((name) => [name, str(run.attributes[name][parent]), str(run.attributes[name][c])])
    .filter(([, before, after]) => before !== after).map(([name, before, after]) => `${name.replace(/_/g, ' ')}: ${before || '–'} → ${after || '–'}`).join('; ');
}
function pollsInWords(polls) {
  const polled = polls.filter((p) => p.count !== undefined);
  return polled.length ? polled.map((p) => `poll ${p.number + 1}: ${estimate(p)}`).join(', ') : 'not polled';
}

function ancestors(run, c) {
  const chain = [c];
  while (run.parents[chain[0]].length && chain.length < 100) chain.unshift(run.parents[chain[0]][0]);
  return chain;
}

// The line from the seed to this text, each step with what changed and which words it kept.
function lineSteps(run, c, select) {
  const { polls, rounds } = model(run);
  return el('ol', { class: 'steps' }, ancestors(run, c).map((step, i, chain) => el('li', { color: roundColor(run.born[step], rounds) },
    el('div', { class: 'what' }, `round ${run.born[step]}, ${str(run.operator[step])}`, changeOf(run, step) && `: ${changeOf(run, step)}`),
    step === c ? el('b', {}, headline(run, step)) : el('button', { type: 'button', onclick: () => select(step) }, el('b', {}, headline(run, step))),
    el('div', { class: 'what' }, pollsInWords(polls[step])),
    i > 0 ? rewording(run, chain[i - 1], step) : mail(run, step, step === c ? undefined : 220))));
}

const wordsOf = (text) => text.split(/\s+/).filter(Boolean);
const bare = (word) => word.toLowerCase().replace(/[^\p{L}\p{N}']/gu, '');
// Word by word where most of the text stayed, otherwise the words that survived: small models write anew.
function rewording(run, parent, child) {
  const before = wordsOf(str(run.text[parent]));
  const after = wordsOf(str(run.text[child]));
  const steps = before.length * after.length < 90000 ? differenceOf(before, after) : [];
  const kept = steps.filter(([kind]) => kind === ' ').length;
  if (kept < 0.5 * Math.max(before.length, after.length)) {
    const old = new Set(before.map(bare));
    const survived = [...new Set(after.map(bare).filter((w) => w.length > 4 && old.has(w)))].slice(0, 12);
    return [mail(run, child, 420), el('p', { class: 'kept-words' }, survived.length ? `kept from its parent: ${survived.join(', ')}` : 'no longer word of its parent is left')];
  }
  return el('div', { class: 'mail', dir: 'auto' }, str(run.subject[child]) && [el('b', {}, str(run.subject[child])), '\n'],
    steps.map(([kind, word]) => [kind === ' ' ? word : el(kind === '+' ? 'ins' : 'del', {}, word), ' ']));
}
function differenceOf(a, b) {
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const steps = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { steps.push([' ', b[j]]); i++; j++; }
    else if (j < b.length && (i === a.length || table[i][j + 1] >= table[i + 1][j])) steps.push(['+', b[j++]]);
    else steps.push(['-', a[i++]]);
  }
  return steps;
}

// The panel beside the map: one text, where it comes from, what became of it.
function reader(run, c, select) {
  const { polls, children, rounds } = model(run);
  const last = lastPoll(polls[c]);
  const below = children[c].slice().sort((a, b) => ((lastPoll(polls[b]) || {}).count ?? -1e9) - ((lastPoll(polls[a]) || {}).count ?? -1e9));
  return [
    el('h3', {}, headline(run, c)),
    el('p', { class: 'quiet' }, pollsInWords(polls[c]),
      last && last.votes !== undefined && state.oracle && el('span', { class: 'of-truth oracle' }, `; true votes ${polls[c].filter((p) => p.votes !== undefined).map((p) => p.votes).join(', ')}`)),
    mail(run, c), chips(run, c, ['topic']),
    run.parents[c].length > 0 ? [el('h4', {}, 'Its line'), lineSteps(run, c, select)]
      : el('p', { class: 'quiet' }, run.born[c] ? `Written without a parent, for round ${run.born[c]}.` : 'A seed: written before the first poll.'),
    below.length > 0 && [el('h4', {}, plural(below.length, 'child').replace('childs', 'children')), el('ul', { class: 'steps' }, below.slice(0, 6).map((child) =>
      el('li', { color: roundColor(run.born[child], rounds) }, el('button', { type: 'button', onclick: () => select(child) }, headline(run, child)),
        el('div', { class: 'what' }, `${changeOf(run, child) || str(run.operator[child])}; ${pollsInWords(polls[child])}`))))],
  ];
}
