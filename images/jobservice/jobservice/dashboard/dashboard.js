// The dashboard: reads the public job service API (REST contract v4), nothing else, and shows it as text only.
'use strict';

const API = 'rest_api/v4';
const SECONDS = 5;         // between two looks at a project
const SLOW_SECONDS = 30;   // between two looks at what is more work for the service
const RECENT_MINUTES = 15; // workers and rate are told of so many minutes
const RECENT_MOST = 2000;
const SHORTEST = 10;       // seconds that a rate is told of at least: times are whole seconds
const ENOUGH = 20;         // of fewer jobs that ended nothing is concluded, unless there are no others
const STILL_MINUTES = 10;  // so long nothing moved before it is said
const PAGE = 50;           // jobs on a page
const DEEPEST = 5000;      // lists without an order are not read further
const FAILED_MOST = 300;   // of more failed jobs than that only those of the last hours are analysed
const TIMED = {claimed: 'Claimed', finished: 'Finished', failed: 'Failed'};
const BOILERPLATE = /^(Starting execution|Job process exited with code -?\d+)$/;

let serviceNow = Date.now();
let view = {leave() {}};

// --- asking ---

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value != null);
  const url = `${API}${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
  const answer = await fetch(url, {headers: {Accept: 'application/json'}, cache: 'no-store', credentials: 'omit'});
  serviceNow = Date.parse(answer.headers.get('Date')) || Date.now();
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.error || `status ${answer.status}`);
  return body;
}

const segment = encodeURIComponent;
const projectPath = name => `/${segment(name)}`;
const jobPath = (name, job) => `${projectPath(name)}/jobs/${segment(job).replaceAll('%3A', ':')}`;
const ago = minutes => new Date(serviceNow - 60000 * minutes).toISOString().slice(0, 19);

// --- showing ---

// An element with attributes and children; text stays text, whatever is in it.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'on') for (const [event, heed] of Object.entries(value)) made.addEventListener(event, heed);
    else if (value != null && value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter(child => child != null));
  return made;
}

const number = value => (typeof value === 'number' ? value.toLocaleString('en') : '–');
const share = (part, whole) => (whole ? `${Math.floor(100 * part / whole)} %` : '–');
const time = text => (text ? text.replace('T', ' ') : '–');
// A target's token in a URL's query is a permission to write: no query is shown.
const harmless = text => text.replace(/(\w+:\/\/[^\s?]*\?)\S+/g, '$1…');
// Clients may put any text, and none.
const stateOf = job => String(job.Status ?? 'unknown').toLowerCase();
const projectLink = (name, ...more) => `#/${[name, ...more].map(segment).join('/')}`;
const jobLink = (name, id) => element('a', {href: projectLink(name, 'job', id)}, id);

function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// pairs: [name, value, the colour that bars have for it]
function facts(pairs) {
  return element('dl', {class: 'facts'}, pairs.map(([name, value, kind]) =>
    element('div', {}, element('dt', {}, kind ? element('span', {class: `dot ${kind}`}) : null, name), element('dd', {class: String(value).length > 12 && 'long'}, String(value)))));
}

// The first ones, and the others for who asks for them.
function folded(items, first, what, make) {
  const rest = items.slice(first);
  return [make(items.slice(0, first)), rest.length
    ? element('details', {}, element('summary', {}, `${number(rest.length)} more ${what}`), make(rest)) : ''].flat();
}

function bar(finished, failed, running, total) {
  const made = element('div', {class: 'bar', role: 'img',
    'aria-label': `${finished} finished, ${failed} failed, ${running} running of ${total}`});
  for (const [kind, count] of Object.entries({finished, failed, running, rest: total - finished - failed - running})) {
    const part = element('span', {class: kind});
    part.style.flexGrow = Math.max(count, 0);
    made.append(part);
  }
  return made;
}

// columns: [heading, what a row has there, whether it is a number]
function table(caption, columns, rows) {
  const head = columns.map(([name, , isNumber]) => element('th', {scope: 'col', class: isNumber && 'n'}, name));
  const body = rows.map(row => element('tr', {}, columns.map(([, cell, isNumber], index) =>
    element(index ? 'td' : 'th', {scope: index ? null : 'row', class: isNumber && 'n'}, cell(row) ?? '–'))));
  return element('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption},
    element('table', {}, element('caption', {}, caption), element('thead', {}, element('tr', {}, head)),
      element('tbody', {}, body)));
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Bars of jobs that ended, from the answer to .../jobs/count by the hour.
function chart(counts) {
  const [width, height] = [800, 120];
  const most = Math.max(...counts.map(count => count.JobsFinished + count.JobsFailed));
  const until = counts.length > 1 ? ` to ${counts.at(-1).Period}` : '';
  const hours = `Hours from ${counts[0].Period}${until} (UTC)`;
  if (!most) return element('p', {class: 'muted'}, `${hours}: jobs were claimed, and none has ended.`);
  const step = width / Math.max(counts.length, 12);
  const drawn = svg('svg', {class: 'chart', viewBox: `0 0 ${width} ${height}`, role: 'img',
    'aria-label': `Jobs that ended by the hour, at most ${most} an hour`});
  counts.forEach((count, index) => {
    let y = height;
    for (const [kind, value] of [['finished', count.JobsFinished], ['failed', count.JobsFailed]]) {
      const tall = value / most * height;
      y -= tall;
      drawn.append(svg('rect', {class: kind, x: index * step + 1, y, width: Math.max(step - 2, 1), height: tall},
        svg('title', {}, `${count.Period}: ${value} ${kind}`)));
    }
  });
  return [drawn, element('p', {class: 'muted'}, `${hours}; at most ${number(most)} ${most === 1 ? 'job' : 'jobs'} an hour.`)];
}

// A part of the page that is made anew only when what it shows has changed, so that reading is not disturbed.
function part(...more) {
  const place = element('div', {}, ...more);
  let shown;
  place.show = (what, make) => {
    const now = JSON.stringify(what);
    if (now !== shown) { shown = now; place.replaceChildren(...[make(what)].flat()); }
  };
  return place;
}

// Calls work now and then, while the page is looked at and this view is open. Returns what ends that.
function repeatedly(seconds, work) {
  let open = true, timer;
  const turn = async () => {
    clearTimeout(timer);
    if (!open) return;
    if (!document.hidden) {
      try {
        await work();
        if (open) trouble('');
      } catch (error) {
        if (open) trouble(error instanceof Refused ? `The job service says: ${error.message}`
          : 'The job service does not answer; trying again.');
      }
    }
    if (open) timer = setTimeout(turn, 1000 * seconds);
  };
  const wake = () => { if (!document.hidden) turn(); };
  document.addEventListener('visibilitychange', wake);
  turn();
  return () => { open = false; clearTimeout(timer); document.removeEventListener('visibilitychange', wake); };
}

function trouble(text) {
  const place = document.getElementById('trouble');
  place.hidden = !text;
  if (place.textContent !== text) place.textContent = text;
  if (!text) document.getElementById('seen').textContent = `Last read at ${new Date().toLocaleTimeString()}.`;
}

// --- the views: each returns its title, what it shows, and what keeps it current ---

function projects() {
  const list = part('Reading …');
  return {title: 'Projects', shows: [list], work: [[SECONDS, async () => {
    const found = (await get('/projects')).Projects;
    found.sort((a, b) => (b.LastJobClaimedAt || b.LastJobAddedAt || '').localeCompare(a.LastJobClaimedAt || a.LastJobAddedAt || ''));
    list.show(found, rows => rows.length ? table('The service\'s own counters; the last claimed first', [
      ['project', row => element('a', {href: projectLink(row.Id)}, row.Id)],
      ['progress', row => bar(row.NrJobsFinished, row.NrJobsFailed, Math.max(row.NrJobsClaimed - row.NrJobsFinished - row.NrJobsFailed, 0), row.NrJobsAdded)],
      ['jobs', row => number(row.NrJobsAdded), true],
      ['finished', row => number(row.NrJobsFinished), true],
      ['failed', row => number(row.NrJobsFailed), true],
      ['last claim (UTC)', row => time(row.LastJobClaimedAt)],
      ['deadline', row => time(row.Deadline)],
    ], rows) : element('p', {}, 'There are no projects yet.'));
  }]]};
}

function project(name) {
  // In some services a question below a project that does not exist makes a table for it (contract, section 1).
  const known = get(projectPath(name)).catch(error => { if (error.status === 404) throw error; });
  const [state, hours, workers, failures, jobs] = [part('Reading …'), part(), part(), part(), jobList(name, known)];
  let last = null, recent = null, analysed = null;

  known.catch(() => state.show(name, () => element('p', {}, `There is no project ${name}.`)));
  const showState = () => last && state.show([last, recent && recent.rate, alarmOf(last, recent)], ([record, rate, alarm]) => {
    const [finished, failed, available] = ['finished', 'failed', 'available'].map(key => inState(record, key));
    const total = Object.values(record.JobStates).reduce((sum, value) => sum + value, 0);
    const running = total - finished - failed - available;
    return [bar(finished, failed, running, total), facts([
      ['Jobs', number(total)], ['Ended', share(finished + failed, total)], ['Finished', number(finished), 'finished'],
      ['Failed', number(failed), 'failed'], ['Running', number(running), 'running'], ['Waiting', number(available), 'rest'],
      ['Jobs a minute', rate && running + available ? rate.toPrecision(3) : '–'],
      ['Left', running + available ? (rate ? duration(60 * (running + available) / rate) : '–') : total ? 'none' : '–'],
    ]), alarm ? element('p', {class: 'note'}, alarm) : '', record.Deadline ? element('p', {class: 'muted'}, `Deadline ${time(record.Deadline)} UTC.`) : ''];
  });

  return {title: `Project ${name}`, shows: [state,
    element('h2', {}, 'Progress by the hour'), hours,
    element('h2', {}, 'Workers'), workers,
    element('h2', {}, 'Failures'), failures,
    element('h2', {}, 'Jobs'), jobs], work: [
    [SECONDS, async () => {
      last = await get(projectPath(name));
      delete last.URLS; delete last.Environment; delete last.CreatedBy;
      showState();
    }],
    [SLOW_SECONDS, async () => {
      await known;
      recent = await readRecent(name);
      showState();
      workers.show(recent.workers, showWorkers);
      const counts = (await get(`${projectPath(name)}/jobs/count`, {period: 'hourly', start: ago(7 * 24 * 60)})).Counts;
      hours.show(counts.slice(-72), found => (found.length ? chart(found) : element('p', {}, 'No job was claimed in the last week.')));
      // Much work for the service, so only when another number of jobs has failed.
      const failed = last && inState(last, 'failed');
      if (failed !== null && failed === analysed) return;
      const start = failed > FAILED_MOST ? newestFailures(counts) : null;
      const found = failed === 0 ? {Lines: [], Jobs: {}} : await get(`${projectPath(name)}/failures`, {start});
      failures.show([found.Lines, Object.keys(found.Jobs).length, start], given => showFailures(name, ...given));
      analysed = failed;
    }],
  ]};
}

// How many jobs of a project are in a state; services write states in letters large and small.
function inState(record, state) {
  return Object.entries(record.JobStates).reduce((sum, [key, value]) => sum + (key.toLowerCase() === state ? value : 0), 0);
}

// What somebody should look at; empty if there is nothing.
function alarmOf(record, recent) {
  const [finished, failed, available] = ['finished', 'failed', 'available'].map(key => inState(record, key));
  const total = Object.values(record.JobStates).reduce((sum, value) => sum + value, 0);
  const ended = finished + failed, running = total - ended - available;
  if (failed && ended >= Math.min(ENOUGH, total)) {
    if (!finished) return failed === 1 ? 'The only job that ended has failed.' : `All ${number(failed)} jobs that ended have failed.`;
    if (failed > ended / 2) return `${number(failed)} of ${number(ended)} jobs that ended have failed.`;
  }
  if (!recent || ended === total) return '';
  const last = [record.LastJobAddedAt, record.LastJobClaimedAt, ...recent.workers.map(worker => worker.last)].filter(Boolean).sort().at(-1);
  if (!last || serviceNow - Date.parse(`${last}Z`) < 60000 * STILL_MINUTES) return '';
  return `Nothing has moved since ${time(last)} UTC: ${running ? 'no job that a worker holds has ended' : 'no worker has claimed a job'}.`;
}

// The hour since which enough jobs failed to tell why; null if none did in these hours.
function newestFailures(counts) {
  let sum = 0, start = null;
  for (const hour of counts.filter(count => count.JobsFailed).reverse()) {
    if (sum < FAILED_MOST) start = `${hour.Period.replace(' ', 'T')}:00`;
    sum += hour.JobsFailed;
  }
  return start;
}

async function readRecent(name) {
  const jobs = `${projectPath(name)}/jobs`;
  const lists = await Promise.all([
    ...['started', 'claimed'].map(status => get(jobs, {status, limit: RECENT_MOST})),
    ...['finished', 'failed'].map(status => get(jobs, {status, start: ago(RECENT_MINUTES), limit: RECENT_MOST})),
  ]);
  const found = new Map();
  let ended = 0, first = Infinity, until = serviceNow;
  for (const {Jobs} of lists.slice(2)) {
    // A list that was cut off tells of a shorter time.
    if (Jobs.length === RECENT_MOST) until = Math.min(until, Date.parse(`${Jobs.at(-1).Finished || Jobs.at(-1).Failed}Z`));
  }
  lists.forEach(({Jobs}, index) => Jobs.forEach(job => {
    if (!job.IsClaimed) return;
    const worker = found.get(job.Worker) || {name: job.Worker || 'nobody', holds: 0, finished: 0, failed: 0, last: ''};
    worker[['holds', 'holds', 'finished', 'failed'][index]] += 1;
    const moment = job.Failed || job.Finished || job.Claimed || '';
    if (moment > worker.last) worker.last = moment;
    if (index > 1 && Date.parse(`${moment}Z`) <= until) { ended += 1; first = Math.min(first, Date.parse(`${job.Claimed}Z`) || Infinity); }
    found.set(job.Worker, worker);
  }));
  const begin = Math.max(first, serviceNow - 60000 * RECENT_MINUTES);
  const minutes = Math.max((until - begin) / 60000, SHORTEST / 60);
  const workers = [...found.values()].sort((a, b) => b.finished + b.failed - a.finished - a.failed || a.name.localeCompare(b.name));
  return {rate: ended ? ended / minutes : null, workers: workers.slice(0, 200)};
}

function showWorkers(rows) {
  if (!rows.length) return element('p', {}, `No worker holds a job or ended one in the last ${RECENT_MINUTES} minutes.`);
  return folded(rows, 12, 'workers', some => table(`Workers that hold a job or ended one in the last ${RECENT_MINUTES} minutes`, [
    ['worker', row => row.name], ['holds', row => number(row.holds), true], ['finished', row => number(row.finished), true],
    ['failed', row => number(row.failed), true], ['last seen (UTC)', row => time(row.last)],
  ], some));
}

function showFailures(name, lines, analysed, start) {
  const groups = lines.map(group => ({jobs: group.Jobs,
    line: [group, ...group.CommonLines].map(line => line.Line).find(line => !BOILERPLATE.test(line))}));
  const told = groups.filter(group => group.line).sort((a, b) => b.jobs.length - a.jobs.length).slice(0, 30);
  if (!analysed) return element('p', {}, 'No job has failed.');
  return [element('p', {class: 'muted'}, `Lines that failed jobs have in common, of ${number(analysed)} jobs${start ? ` that failed since ${time(start)} UTC` : ''}.`),
    ...folded(told, 5, 'lines', some => element('div', {}, some.map(group => [
    element('h3', {}, `${number(group.jobs.length)} ${group.jobs.length === 1 ? 'job' : 'jobs'}`),
    element('pre', {}, harmless(group.line)),
    element('p', {}, group.jobs.slice(0, 10).flatMap((id, index) => [index ? ', ' : '', jobLink(name, id)]), group.jobs.length > 10 ? ', …' : ''),
  ]).flat()))];
}

// The jobs, page by page. Where the service orders by a time, the next page begins at the last one's; else more are read.
function jobList(name, known) {
  const rows = part('Reading …');
  const [earlier, later] = [['Earlier', -1], ['Later', 1]].map(([text, way]) =>
    element('button', {type: 'button', disabled: true, on: {click: () => turn(way)}}, text));
  const state = element('select', {name: 'state'}, ['failed', 'finished', 'started', 'claimed', 'available', ''].map(value =>
    element('option', {value}, value || 'any')));
  const worker = element('input', {name: 'worker', autocomplete: 'off'});
  const id = element('input', {name: 'id', autocomplete: 'off', placeholder: '1:7014791071'});
  let pages = [{start: null, seen: []}], chosen = false, reading, turns = Promise.resolve();

  async function read() {
    const page = pages.at(-1), status = state.value, key = TIMED[status];
    const skip = key ? page.seen.length : (pages.length - 1) * PAGE;
    const query = {status, worker: worker.value.trim(), limit: skip + PAGE + 1};
    if (key) query.start = page.start || '2000-01-01T00:00:00';
    const found = (await get(`${projectPath(name)}/jobs`, query)).Jobs;
    const fresh = key ? found.filter(job => !page.seen.includes(job.Id)) : found.slice(skip);
    const shown = fresh.slice(0, PAGE);
    if (page !== pages.at(-1)) return;
    if (fresh.length > PAGE) {
      const at = key && shown.at(-1)[key];
      page.next = {start: at, seen: key ? [...(at === page.start ? page.seen : []), ...shown.filter(job => job[key] === at).map(job => job.Id)] : []};
    } else page.next = null;
    const deepest = !key && pages.length * PAGE >= DEEPEST;
    earlier.disabled = pages.length === 1;
    later.disabled = !page.next || deepest;
    const first = (pages.length - 1) * PAGE;
    rows.show([shown, first], () => (shown.length ? table(`Jobs ${number(first + 1)} to ${number(first + shown.length)}`, [
      ['job', job => jobLink(name, job.Id)],
      ['state', job => element('span', {class: `state-${stateOf(job)}`}, job.IsClaimed || stateOf(job) === 'available' ? stateOf(job) : `${stateOf(job)}, given back`)],
      ['worker', job => job.Worker],
      ['claimed (UTC)', job => time(job.Claimed)],
      ['ended (UTC)', job => time(stateOf(job) === 'failed' ? job.Failed : job.Finished)],
      ['time / s', job => (job.ProcessingTime ? job.ProcessingTime.toFixed(1) : '–'), true],
    ], shown) : element('p', {}, 'There are no such jobs.')));
  }

  const safely = () => {
    earlier.disabled = pages.length === 1;
    later.disabled = false; // until the answer says that there are no more
    reading = read().then(() => trouble(''), error => trouble(`The jobs cannot be read: ${error.message}`));
  };
  const again = () => { chosen = true; pages = [{start: null, seen: []}]; safely(); };
  // A click while an answer is on its way waits for it: it tells where the next page begins.
  function turn(way) {
    const list = pages;
    turns = turns.then(async () => {
      await reading;
      if (pages !== list) return; // other jobs were chosen since
      const {next} = pages.at(-1);
      if (way < 0 && pages.length > 1) pages.pop();
      else if (way > 0 && next) pages.push(next);
      else if (next !== undefined) return;
      safely();
    });
  }
  const form = element('form', {on: {submit: event => {
    event.preventDefault();
    if (id.value.trim()) location.hash = projectLink(name, 'job', id.value.trim()); else again();
  }}}, element('label', {}, 'State', state), element('label', {}, 'Worker', worker), element('label', {}, 'Job', id),
    element('button', {}, 'Show'), earlier, later);
  state.addEventListener('change', again);
  worker.addEventListener('change', again);
  // Where nothing failed, what finished is more telling.
  known.then(() => get(`${projectPath(name)}/jobs`, {status: 'failed', limit: 1}).then(found => {
    if (!found.Jobs.length && !chosen) state.value = '';
  }, () => {}).then(() => { if (!chosen) safely(); }), () => rows.show(null, () => ''));
  return element('div', {}, form, rows);
}

function job(name, id) {
  const [state, output] = [part('Reading …'), part()];
  return {title: `Job ${id}`, trail: name, shows: [state, element('h2', {}, 'Output'), output], work: [[SECONDS, async () => {
    const [status, claim, said] = await Promise.all(['status', 'claim', 'output'].map(what => get(`${jobPath(name, id)}/${what}`)));
    state.show([status.Status, claim], () => facts([
      ['State', stateOf(status)], ['Worker', claim.ClaimedByWorker || '–'], ['Claimed (UTC)', time(claim.ClaimedAtTime)]]));
    output.show(said.Output, text => (text ? element('pre', {}, harmless(text)) : element('p', {}, 'It has printed nothing yet.')));
  }]]};
}

// --- where we are ---

function open() {
  const [name, kind, id] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  view.leave();
  const shown = !name ? projects() : kind === 'job' && id ? job(name, id) : project(name);
  const ends = shown.work.map(([seconds, work]) => repeatedly(seconds, work));
  view = {leave() { ends.forEach(end => end()); }};
  document.title = `${shown.title} – job service`;
  document.getElementById('trail').replaceChildren(...(name ? [element('a', {href: '#/'}, 'Projects')] : []),
    ...(shown.trail ? [' › ', element('a', {href: projectLink(shown.trail)}, shown.trail)] : []));
  document.getElementById('page').replaceChildren(element('h1', {}, shown.title), ...shown.shows);
}

addEventListener('hashchange', () => { open(); document.getElementById('page').focus(); });
open();
