// The official OpenAI SDK for Node in DashScope's OpenAI-compatible mode. OPENAI_BASE_URL and OPENAI_API_KEY are its own
// variables; the folder of its installation is the first argument. Prints a line of JSON.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "package.json"));
const OpenAI = require("openai").default;
const client = new OpenAI({ maxRetries: 0 });
const made = await client.images.generate({ model: "qwen-image-3.0", prompt: "a red circle", size: "1024x1024", n: 2 });
let refused = null;
try {
  await client.images.generate({ model: "qwen-image-edit-max", prompt: "a red circle" });
} catch (problem) {
  refused = [problem.constructor.name, problem.status, problem.code];
}
console.log(JSON.stringify({ links: made.data.map((picture) => picture.url), created: made.created, refused }));
