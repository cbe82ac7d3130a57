"use strict";

// What the page has to say stands in the attributes of its root element; see graphql_api/graphiql/page.py.
const root = document.getElementById("graphiql");
const { endpoint, tabs } = root.dataset;

// A tab's headers are sent with the requests and, over a WebSocket, in what opens the connection.
const subscriptionUrl = new URL(endpoint, location.href).href.replace(/^http/, "ws");

const properties = {
  fetcher: GraphiQL.createFetcher({ url: endpoint, subscriptionUrl }),
  defaultTabs: JSON.parse(tabs),
  defaultEditorToolsVisibility: "variables",
};
const key = keyOfThisTab();
if (key) {
  // Each tab begins with the key, and nothing keeps it longer than the browser's own tab.
  const authorization = `Bearer ${key}`;
  properties.defaultHeaders = JSON.stringify({ Authorization: authorization }, null, 2);
  properties.defaultEditorToolsVisibility = "headers";
  properties.shouldPersistHeaders = false;
  properties.storage = storageWithout(authorization);
}

ReactDOM.createRoot(root).render(React.createElement(GraphiQL, properties));

// The key that the address ended with when the tab was opened. No server sees what follows '#', and it does not stay in the address.
function keyOfThisTab() {
  const name = "autoloader:key";
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(name, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(name);
}

// The browser's storage, in which `secret` is never written: the history keeps the headers of what was executed. A mark
// stands for it, so that an old entry of the history works with a new key.
function storageWithout(secret) {
  const mark = "Bearer the-local-key";
  // As it stands there: in headers, which are JSON, in an entry, which is JSON.
  const written = jsonWithoutQuotes(jsonWithoutQuotes(secret));
  return {
    getItem: (name) => localStorage.getItem(name)?.replaceAll(mark, () => written) ?? null,
    setItem: (name, value) => localStorage.setItem(name, value.replaceAll(written, () => mark)),
    removeItem: (name) => localStorage.removeItem(name),
    clear: () => localStorage.clear(),
    get length() {
      return localStorage.length;
    },
  };
}

function jsonWithoutQuotes(text) {
  return JSON.stringify(text).slice(1, -1);
}
