// A race in WebAssembly, as a browser would run it: interleaved rounds, one thread, CPU time. Started by bench/web.py.
//
//   node web.mjs ROUNDS WARMUP INPUT MODEL.onnx...      in a folder where onnxruntime-web is installed
//
// INPUT is one input of the models, as raw bytes of their type. Prints one line of JSON: the version, and of each model by
// its file the first output and the cpu_ms of every round.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const found = createRequire(pathToFileURL(process.cwd() + '/')).resolve('onnxruntime-web');
const { default: ort } = await import(pathToFileURL(found));
ort.env.wasm.numThreads = 1;

const [rounds, warmup, input, ...models] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(input)).buffer;
const racers = [];
for (const model of models) {
  const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ['wasm'] });
  const { name, type, shape } = session.inputMetadata[0];
  const one = shape.map((size) => (typeof size === 'number' ? size : 1));
  const numbers = type === 'uint8' ? new Uint8Array(bytes) : new Float32Array(bytes);
  const feeds = { [name]: new ort.Tensor(type, numbers, one) };
  racers.push({ model, run: async () => (await session.run(feeds))[session.outputNames[0]].data, cpu_ms: [] });
}
for (const racer of racers) racer.output = Array.from(await racer.run());
for (let round = -warmup; round < rounds; round++) {
  for (const racer of shuffled(racers)) {
    const before = process.cpuUsage();
    await racer.run();
    const spent = process.cpuUsage(before);
    if (round >= 0) racer.cpu_ms.push((spent.user + spent.system) / 1000);
  }
}
const ended = racers.map(({ model, output, cpu_ms }) => [model, { output, cpu_ms }]);
console.log(JSON.stringify({ version: ort.env.versions.web ?? ort.env.versions.common, models: Object.fromEntries(ended) }));

function shuffled(items) {
  return items.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
}
