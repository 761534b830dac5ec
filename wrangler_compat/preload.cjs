// Loaded into the user's own Node tools (NODE_OPTIONS="--require …"): points miniflare's remote bindings at roost.
// Every Node program of that shell loads this, so it does nothing, prints nothing and throws nothing elsewhere.
// miniflare's option `remoteProxyConnectionString` is where a remote binding's requests go; wrangler fills it with the
// address of its own proxy to Cloudflare. Seen with miniflare 4 and 5.
"use strict";
const Module = require("node:module");

const ROOST = process.env.ROOST_BINDING_URL;
const MINIFLARE = /[\\/]miniflare[\\/]dist[\\/]src[\\/]index\.c?js$/;
const OLD_FETCHER = "__WRANGLER_EXTERNAL_AI_WORKER"; // wrangler before 4.36 reads on when the Worker has left
const DEEPEST = 8;

function directly() {
  const { host, searchParams } = new URL(ROOST);
  const token = searchParams.get("roost-token");
  const bearer = token ? [{ name: "authorization", value: `Bearer ${token}` }] : [];
  return { address: host, http: { injectRequestHeaders: bearer } };
}

function redirect(options, seen = new WeakSet(), depth = 0) {
  if (!options || typeof options !== "object" || seen.has(options) || depth > DEEPEST) return;
  seen.add(options);
  if (String(options.name).startsWith(OLD_FETCHER) && options.serviceBindings?.FETCHER) {
    options.serviceBindings.FETCHER = { external: directly() };
  }
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(options))) {
    const value = property.value; // getters are left alone
    if (name === "remoteProxyConnectionString") {
      if (value && property.writable) options[name] = value instanceof URL ? new URL(ROOST) : ROOST;
    } else if (value && typeof value === "object" && !ArrayBuffer.isView(value)) {
      redirect(value, seen, depth + 1);
    }
  }
}

// wrangler 4.86 never ends after x or Ctrl-C in a project with a remote binding: its open terminal keeps it alive.
const running = new Set();
function letGo() {
  if (process.stdin.isTTY && /wrangler/.test(process.argv[1] ?? "")) process.stdin.unref();
}

// miniflare lives on without a workerd that something else killed, and no connection is taken any more: under roost dev
// that ends wrangler, and roost with it. miniflare ends its own workerd by kill().
const FATAL = new Set(["SIGKILL", "SIGABRT", "SIGBUS", "SIGSEGV"]);
function endWithWorkerd() {
  const processes = require("node:child_process");
  const spawn = processes.spawn;
  processes.spawn = function (command, ...rest) {
    const child = spawn.call(this, command, ...rest);
    if (/[\\/]workerd(\.exe)?$/.test(String(command))) {
      child.once("exit", (_, signal) => {
        if (child.killed || !FATAL.has(signal)) return;
        process.stderr.write(`Error: workerd was killed (${signal}), and wrangler ends with it\n`);
        process.exit(128 + require("node:os").constants.signals[signal]);
      });
    }
    return child;
  };
}

function patched(exports) {
  const Original = exports?.Miniflare;
  if (typeof Original !== "function") return exports;
  const setOptions = Original.prototype.setOptions;
  Original.prototype.setOptions = function (options) {
    redirect(options);
    return setOptions.call(this, options);
  };
  const dispose = Original.prototype.dispose;
  Original.prototype.dispose = async function () {
    await dispose.call(this);
    running.delete(this);
    if (running.size === 0) letGo();
  };
  const Miniflare = new Proxy(Original, {
    construct(target, args, newTarget) {
      redirect(args[0]);
      const miniflare = Reflect.construct(target, args, newTarget === Miniflare ? target : newTarget);
      running.add(miniflare);
      return miniflare;
    },
  });
  return new Proxy(exports, {
    get: (target, name, receiver) => (name === "Miniflare" ? Miniflare : Reflect.get(target, name, receiver)),
  });
}

// The handler of .js files runs for require() and for import of CommonJS alike, before anybody holds the exports.
const load = Module._extensions?.[".js"];
if (ROOST && process.env.ROOST_MARK) endWithWorkerd();
if (ROOST && load) {
  Module._extensions[".js"] = function (module, filename) {
    load.apply(this, arguments);
    if (MINIFLARE.test(filename)) module.exports = patched(module.exports);
  };
}
