// The `backend` function behind a stage, as on AWS: its own process on the Lambda Runtime API, and in front of it what
// API Gateway does with a stage. `local` has no stage. What can't be had from a healthy system can be asked for here:
// an empty read model, answers that fail.

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { readFileSync } from "node:fs";

import { PROGRAM, atTheEnd } from "./system.js";

const RUNTIME = "/2018-06-01/runtime/invocation/";

async function listening(handler) {
  const server = createServer(handler);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  atTheEnd(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return [server, server.address().port];
}

async function bodyOf(request) {
  let body = "";
  for await (const part of request) body += part;
  return body;
}

export class Front {
  /** Answers to requests of the API (not for the page and its files) are this instead: `{ status, headers, body }`. */
  instead = null;
  #waiting = [];
  #asked = [];
  #running = new Map();

  /** In front of the read model of `system`, or of an empty one; `/stage/` is where the API is. */
  static async start(system, { table = "checkin-read-model", stage = "v1" } = {}) {
    const front = new Front();
    const [, runtime] = await listening((request, response) => front.#runtime(request, response).catch(() => response.destroy()));
    const [, port] = await listening((request, response) => front.#serve(request, response, stage));
    const child = spawn(PROGRAM, ["service", "backend"], {
      stdio: "ignore",
      env: {
        AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${runtime}`,
        AWS_LAMBDA_FUNCTION_NAME: "backend",
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "256",
        AWS_LAMBDA_FUNCTION_VERSION: "$LATEST",
        AWS_REGION: "us-east-1",
        AWS_ACCESS_KEY_ID: "local",
        AWS_SECRET_ACCESS_KEY: "local",
        AWS_ENDPOINT_URL_DYNAMODB: system.dynamodb,
        READ_MODEL_TABLE: table,
        LOG_LEVEL: "info",
      },
    });
    atTheEnd(() => child.kill());
    front.origin = `http://127.0.0.1:${port}`;
    front.url = `${front.origin}/${stage}/`;
    return front;
  }

  /** The Runtime API: one invocation at a time, as of one instance of a function. */
  async #runtime(request, response) {
    if (request.url === `${RUNTIME}next`) {
      this.#waiting.push(response);
      this.#match();
      return;
    }
    const [id, what] = request.url.slice(RUNTIME.length).split("/");
    const body = await bodyOf(request);
    this.#running.get(id)?.(what === "response" ? JSON.parse(body) : { statusCode: 502, body: "" });
    this.#running.delete(id);
    response.writeHead(202).end();
  }

  #match() {
    while (this.#waiting.length > 0 && this.#asked.length > 0) {
      const { id, event } = this.#asked.shift();
      this.#waiting
        .shift()
        .writeHead(200, {
          "Content-Type": "application/json",
          "Lambda-Runtime-Aws-Request-Id": id,
          "Lambda-Runtime-Deadline-Ms": String(Date.now() + 10_000),
          "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:backend",
        })
        .end(JSON.stringify(event));
    }
  }

  #invoke(event) {
    const id = event.requestContext.requestId;
    this.#asked.push({ id, event });
    this.#match();
    return new Promise((resolve) => this.#running.set(id, resolve));
  }

  /** What API Gateway does: the function's path is without the stage, the one of the request's context has it. */
  async #serve(request, response, stage) {
    const url = new URL(request.url, this.origin);
    const path = url.pathname === `/${stage}` ? "/" : url.pathname.startsWith(`/${stage}/`) ? url.pathname.slice(stage.length + 1) : null;
    if (path === null) return response.writeHead(403).end('{"message":"Forbidden"}');
    if (this.instead && path !== "/" && !path.startsWith("/assets/")) {
      const { status, headers, body } = this.instead;
      return response.writeHead(status, headers).end(body);
    }
    const one = Object.fromEntries(url.searchParams);
    const answer = await this.#invoke({
      resource: "/{proxy+}",
      path,
      httpMethod: request.method,
      headers: request.headers,
      multiValueHeaders: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, [value]])),
      queryStringParameters: one,
      multiValueQueryStringParameters: Object.fromEntries(Object.entries(one).map(([name, value]) => [name, [value]])),
      requestContext: {
        accountId: "000000000000",
        apiId: "front",
        httpMethod: request.method,
        path: url.pathname,
        stage,
        resourcePath: "/{proxy+}",
        requestId: crypto.randomUUID(),
        identity: { sourceIp: "127.0.0.1" },
      },
      body: null,
      isBase64Encoded: false,
    });
    const lists = Object.entries(answer.multiValueHeaders ?? {});
    response.writeHead(answer.statusCode, { ...answer.headers, ...Object.fromEntries(lists) }).end(answer.body ?? "");
  }
}

/** An empty read model beside the one of `system`. Gives its table's name. */
export async function emptyReadModel(system) {
  const definition = new URL("../../../shared/embedded/tables/read_model.json", import.meta.url);
  const table = "checkin-read-model-empty";
  await system.dynamo("CreateTable", { ...JSON.parse(readFileSync(definition, "utf8")), TableName: table });
  return table;
}
