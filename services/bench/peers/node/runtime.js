// The Lambda Runtime API's client: what AWS's own does per invocation, and no more.
import http from "node:http";

const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function request(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) };
    const options = { hostname, port, agent, method, headers, path: `/2018-06-01/runtime${path}` };
    const call = http.request(options, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(chunks) }));
      answer.on("error", reject);
    });
    call.on("error", reject);
    call.end(body);
  });
}

export async function run(handler) {
  for (;;) {
    const next = await request("GET", "/invocation/next");
    const id = next.headers["lambda-runtime-aws-request-id"];
    try {
      const result = await handler(JSON.parse(next.body));
      await request("POST", `/invocation/${id}/response`, JSON.stringify(result));
    } catch (error) {
      console.error(error);
      const report = { errorType: error.name, errorMessage: error.message };
      await request("POST", `/invocation/${id}/error`, JSON.stringify(report));
    }
  }
}
