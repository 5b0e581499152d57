"use strict";
const OLD_HOURS = 26;
const hoursSince = (element) => (Date.now() - Date.parse(element.dateTime)) / 3600000;

function spelled(hours) {
  const minutes = Math.max(0, Math.floor(hours * 60));
  if (minutes < 60) return `${minutes} min`;
  if (hours < 48) return `${Math.floor(hours)} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days ${Math.floor(hours) % 24} h`;
}

function showAges() {
  for (const element of document.querySelectorAll("time.age")) {
    element.textContent = `${spelled(hoursSince(element))} ago`;
  }
  const old = hoursSince(document.getElementById("written")) > OLD_HOURS;
  document.getElementById("old").hidden = !old;
  document.body.classList.toggle("old", old);
}

function showMatching(text) {
  for (const element of document.querySelectorAll("[data-network]")) {
    element.hidden = !element.dataset.network.includes(text.trim().toLowerCase());
  }
}

function openEntry() {
  const anchor = decodeURIComponent(location.hash.slice(1));
  const network = anchor.match(/^([a-z0-9_]+)-\d{4}-\d\d-\d\d$/);
  const entry = document.getElementById(anchor) || (network && document.getElementById(`network-${network[1]}`));
  if (!entry) return;
  const folded = entry.closest("details");
  if (folded) folded.open = true;
  entry.scrollIntoView();
}

showAges();
setInterval(showAges, 60000);
const filter = document.getElementById("filter");
if (filter) {
  filter.parentElement.hidden = false;
  filter.addEventListener("input", () => showMatching(filter.value));
  showMatching(filter.value);
}
addEventListener("hashchange", openEntry);
openEntry();
