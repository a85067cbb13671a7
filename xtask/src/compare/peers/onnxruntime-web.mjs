// onnxruntime-web as a peer of `cargo xtask compare`: WebAssembly with SIMD, on one thread of Node.
//
// Speaks the protocol of protocol.rs on stdin and stdout.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as ort from "onnxruntime-web";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

const TYPES = {
  FP32: ["float32", Float32Array],
  INT64: ["int64", BigInt64Array],
};

let session, inputs;

async function load(folder) {
  inputs = {};
  for (const { name, datatype, shape, file } of JSON.parse(readFileSync(join(folder, "inputs.json")))) {
    const [type, Elements] = TYPES[datatype];
    const bytes = Uint8Array.from(readFileSync(join(folder, file)));
    inputs[name] = new ort.Tensor(type, new Elements(bytes.buffer), shape);
  }
  const start = process.hrtime.bigint();
  const model = new Uint8Array(readFileSync(join(folder, "model.onnx")));
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { load_ns: Number(process.hrtime.bigint() - start) };
}

async function answer(command, argument) {
  switch (command) {
    case "version":
      return { "onnxruntime-web": ort.env.versions.web, node: process.versions.node };
    case "load":
      await session?.release(); // only one model at a time in memory
      session = undefined;
      return load(argument);
    case "outputs": {
      const outputs = await session.run(inputs);
      const tensors = session.outputNames.map((name) => outputs[name]);
      const bytes = ({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      writeFileSync(argument, Buffer.concat(tensors.map(bytes)));
      return { shapes: tensors.map((tensor) => tensor.dims) };
    }
    case "time": {
      const ns = [];
      for (let run = 0; run < Number(argument); run += 1) {
        const start = process.hrtime.bigint();
        await session.run(inputs);
        ns.push(Number(process.hrtime.bigint() - start));
      }
      return { ns };
    }
    default:
      throw new Error(`unknown command '${command}'`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const space = line.indexOf(" ");
  const [command, argument] = space < 0 ? [line, ""] : [line.slice(0, space), line.slice(space + 1)];
  const reply = await answer(command, argument).catch((error) => ({ error: String(error.message ?? error) }));
  process.stdout.write(JSON.stringify(reply) + "\n");
}
