// The server's HTTP interface (demo/studio/api.py). Errors are the house's one-line texts.

const TOKEN = document.querySelector('meta[name="studio-token"]').content;

/** What the server refused. status: of HTTP; body: its answer. */
export class Refused extends Error {
  constructor(line, status, body) {
    super(line);
    this.status = status;
    this.body = body;
  }
}

/** One request. body: an object (sent as JSON), a Blob, or undefined. Returns the Response. */
export async function ask(method, path, body) {
  const headers = { 'X-Studio-Token': TOKEN };
  const raw = body instanceof Blob;
  if (body !== undefined && !raw) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : raw ? body : JSON.stringify(body) });
  } catch {
    throw new Refused('the studio does not answer; is it still running in the terminal?', 0, {});
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refused(told.error || `the studio answered ${answer.status}`, answer.status, told);
}

const json = async (...words) => (await ask(...words)).json();
const at = (id, rest = '') => `/api/projects/${id}${rest}`;

export const api = {
  about: () => json('GET', '/api/about'),
  projects: () => json('GET', '/api/projects'),
  create: () => json('POST', '/api/projects', {}),
  open: (id) => json('GET', at(id)),
  save: (id, project, revision) => json('PUT', at(id), { project, revision }),
  remove: (id) => json('DELETE', at(id)),
  importFile: (file) => json('POST', '/api/projects/import', file),
  /** key: picture | mask | strokes. keep: mask and arrows stay if the size is the same. */
  put: (id, key, blob, keep = false) => json('PUT', at(id, `/${key}${keep ? '?keep=1' : ''}`), blob),
  clear: (id, key) => json('DELETE', at(id, `/${key}`)),
  run: (id, stages, preview = false) => json('POST', at(id, '/run'), { stages, preview }),
  words: (id) => json('POST', at(id, '/words'), {}), // of the project's odise.vocab
  paint: (id) => json('POST', at(id, '/paint'), {}),
  suggest: (id, count) => json('POST', at(id, '/suggest'), { count }),
  complete: (id) => json('POST', at(id, '/complete'), {}),
  job: (id) => json('GET', `/api/jobs/${id}`),
  cancel: (job) => json('DELETE', `/api/jobs/${job}`),
  exported: (id) => at(id, '/project.json'),

  /** The flow at a small size: {width, height, scale, source, values: Float32Array [2,H,W] in px/frame}. */
  async flow(id, shortSide) {
    const answer = await ask('POST', at(id, '/flow'), { short_side: shortSide });
    const number = (name) => Number(answer.headers.get(`X-Flow-${name}`));
    const values = new Float32Array(await answer.arrayBuffer());
    return { width: number('Width'), height: number('Height'), scale: number('Scale') || 0, values };
  },

  /** Server-sent events of a project; told(message) gets each. Returns a function that ends them. */
  events(id, told) {
    const source = new EventSource(at(id, '/events'));
    source.onmessage = (event) => told(JSON.parse(event.data));
    return () => source.close();
  },
};
