/*
 * chart.js
 *		Lines over an axis, as an SVG that needs nothing else.
 *
 * Text and grid take the colour of the page's text, half transparent, and the lines
 * have colours that stand out on white as well as on black, so a viewer in either
 * mode can read it.  Each series has a colour and a mark of its own.
 */
'use strict';

const WIDTH = 760;
const HEIGHT = 440;
const LEFT = 78;
const RIGHT = 24;
const TOP = 50;
const BOTTOM = 58;
const LEGEND_ROW = 18;

const COLOURS = ['#2f81f7', '#db6d28', '#2da44e', '#bf3989', '#8957e5', '#b08800', '#0a9ba8', '#cf222e'];
const MARKS = [
	(x, y) => `<circle cx="${x}" cy="${y}" r="3.5"/>`,
	(x, y) => `<rect x="${x - 3.2}" y="${y - 3.2}" width="6.4" height="6.4"/>`,
	(x, y) => `<path d="M${x} ${y - 4.5}l4.2 7.6h-8.4z"/>`,
	(x, y) => `<path d="M${x} ${y - 4.6}l4.6 4.6l-4.6 4.6l-4.6-4.6z"/>`
];

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const round = (number) => Math.round(number * 10) / 10;

function label(value)
{
	const size = Math.abs(value);

	for (const [unit, suffix] of [[1e9, ' G'], [1e6, ' M'], [1e3, ' k']])
	{
		if (size >= unit)
			return `${Number((value / unit).toPrecision(3))}${suffix}`;
	}
	return `${Number(value.toPrecision(3))}`;
}

/* Where an axis has its marks: 1, 2 or 5 times a power of ten apart. */
function linearTicks(max)
{
	const power = 10 ** Math.floor(Math.log10(max / 5));
	const step = [1, 2, 5, 10].map((n) => n * power).find((n) => max / n <= 6);
	const ticks = [];

	for (let n = 0; n * step <= max * 1.0001; n++)
		ticks.push(n * step);
	return ticks;
}

function logTicks(min, max)
{
	const ticks = [];

	for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++)
	{
		for (const n of max / min < 200 ? [1, 2, 5] : [1])
		{
			const value = n * 10 ** power;

			if (value >= min * 0.999 && value <= max * 1.001)
				ticks.push(value);
		}
	}
	return ticks;
}

/* { at(value) from 0 to 1, ticks, and where the axis ends } */
function axis(values, { log, ticks } = {})
{
	const positive = values.filter((value) => value > 0);
	let max = Math.max(...values);

	if (positive.length === 0)
		return { at: () => 0, ticks: [0] };
	if (!log)
	{
		const marks = linearTicks(max * 1.05);

		max = Math.max(max * 1.05, marks[marks.length - 1]);
		return { at: (value) => value / max, ticks: ticks ?? marks };
	}

	const min = Math.min(...positive);
	const from = Math.log(min) - (min === max ? 1 : 0);
	const to = Math.log(max) + (min === max ? 1 : 0);
	const room = (to - from) * 0.03;

	return {
		at: (value) => (Math.log(Math.max(value, min)) - from + room) / (to - from + 2 * room),
		ticks: ticks ?? logTicks(min, max)
	};
}

/*
 * { title, x: { label, log, ticks }, y: { label, log }, series: [{ name, points: [[x, y], ...] }] }
 */
function chart({ title, x, y, series: given })
{
	const series = given.map((one) => ({ ...one, points: one.points.filter((point) => point.every(Number.isFinite)) }));
	const points = series.flatMap((one) => one.points);
	const xs = [...new Set(points.map((point) => point[0]))];
	const across = axis(xs, { ...x, ticks: x.ticks ?? (x.log && xs.length <= 10 ? xs : undefined) });
	const up = axis(points.map((point) => point[1]), y);
	const bottom = HEIGHT - BOTTOM;
	const height = HEIGHT + series.length * LEGEND_ROW;
	const px = (value) => round(LEFT + across.at(value) * (WIDTH - LEFT - RIGHT));
	const py = (value) => round(bottom - up.at(value) * (bottom - TOP));
	const out = [];

	out.push(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"` +
		' font-family="system-ui, sans-serif" font-size="12" role="img">',
	`<title>${escape(title)}</title>`,
	/* the colours of the surroundings cannot be asked for in an image, the reader's wish can */
	'<style>',
	'.ink{fill:#24292f}.grid{stroke:#24292f}',
	'@media (prefers-color-scheme:dark){.ink{fill:#c9d1d9}.grid{stroke:#c9d1d9}.page{fill:#0d1117}}',
	'</style>',
	`<rect class="page" width="${WIDTH}" height="${height}" fill="#fff"/>`,
	`<text class="ink" x="${WIDTH / 2}" y="26" text-anchor="middle" font-size="15" font-weight="600">${escape(title)}</text>`);

	for (const tick of up.ticks)
		out.push(`<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(tick)}" y2="${py(tick)}" stroke-opacity=".15"/>`,
			`<text class="ink" x="${LEFT - 8}" y="${py(tick) + 4}" text-anchor="end">${label(tick)}</text>`);
	for (const tick of across.ticks)
		out.push(`<line class="grid" x1="${px(tick)}" x2="${px(tick)}" y1="${bottom}" y2="${bottom + 5}" stroke-opacity=".5"/>`,
			`<text class="ink" x="${px(tick)}" y="${bottom + 19}" text-anchor="middle">${label(tick)}</text>`);
	out.push(`<path class="grid" d="M${LEFT} ${TOP}V${bottom}H${WIDTH - RIGHT}" fill="none" stroke-opacity=".6"/>`,
		`<text class="ink" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${bottom + 42}" text-anchor="middle">${escape(x.label)}</text>`,
		`<text class="ink" transform="translate(18 ${(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">${escape(y.label)}</text>`);

	series.forEach((one, i) =>
	{
		const colour = COLOURS[i % COLOURS.length];
		const mark = MARKS[i % MARKS.length];
		const line = [...one.points].sort((a, b) => a[0] - b[0]);
		const legend = HEIGHT - 4 + i * LEGEND_ROW;

		out.push(`<g fill="${colour}">`,
			`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${line.map((p) => `${px(p[0])},${py(p[1])}`).join(' ')}"/>`,
			...line.map((p) => mark(px(p[0]), py(p[1]))),
			`<line x1="${LEFT}" x2="${LEFT + 26}" y1="${legend}" y2="${legend}" stroke="${colour}" stroke-width="2"/>`,
			mark(LEFT + 13, legend),
			'</g>',
			`<text class="ink" x="${LEFT + 34}" y="${legend + 4}">${escape(one.name)}</text>`);
	});
	out.push('</svg>', '');
	return out.join('\n');
}

module.exports = { chart };
