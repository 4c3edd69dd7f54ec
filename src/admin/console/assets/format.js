// Numbers, money and times as people read them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const NONE = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  return known(value) ? whole.format(value) : NONE;
}

export function compact(value) {
  if (!known(value)) return NONE;
  return value < 10_000 ? whole.format(value) : short.format(value);
}

/** Dollars: two digits behind the point, or as many as a small sum needs to be told. */
export function usd(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "$0";
  if (Math.abs(value) >= 1) return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  return `$${value.toLocaleString("en-US", { maximumSignificantDigits: 3, maximumFractionDigits: 12 })}`;
}

/** Milliseconds as a duration. */
export function ms(value) {
  if (!known(value)) return NONE;
  if (value < 10) return `${value.toLocaleString("en-US", { maximumSignificantDigits: 2 })} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
  if (value < 3_600_000) return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
  if (value < 172_800_000) return `${Math.floor(value / 3_600_000)} h ${Math.round((value % 3_600_000) / 60_000)} min`;
  return `${Math.round(value / 86_400_000)} days`;
}

/** A share of one in percent. */
export function percent(value) {
  if (!known(value)) return NONE;
  const hundred = value * 100;
  return `${hundred === 0 || hundred >= 10 ? Math.round(hundred) : hundred.toFixed(1)} %`;
}

const pad = (number) => String(number).padStart(2, "0");

export function clock(text) {
  const at = new Date(text);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

export function day(text) {
  const at = new Date(text);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

/** A local date and time; only the time for today. */
export function moment(text) {
  if (!text) return NONE;
  return day(text) === day(Date.now()) ? clock(text) : `${day(text)} ${clock(text)}`;
}

/** The last so many days in UTC, the ledger's days, oldest first. */
export function lastDays(number) {
  const today = Date.now();
  return Array.from({ length: number }, (_, at) => new Date(today - (number - 1 - at) * 86_400_000).toISOString().slice(0, 10));
}
