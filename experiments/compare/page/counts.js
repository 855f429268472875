// The page of counts: keys and released elements are tables that need no script. Rounds and candidates a count has none,
// so what start.js would draw of them is nothing; of its cost, where the time went.

function drawMetrics() {}
function drawPoll() {}
function drawMap() {}
function drawDrift() {}
function drawCost() { place('cost').replaceChildren(timeTable()); }
