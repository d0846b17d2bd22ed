// Opens a report in headless Chromium and fails on anything that a reader would stumble over: a request, a message on the console,
// sideways scrolling, tiny chart labels, an accessibility violation, text that needs JavaScript, a panel without its table.
// Usage: node check.mjs REPORT.html [SCREENSHOT_FOLDER]
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const report = path.resolve(process.argv[2])
const folder = process.argv[3]
const axeSource = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const faults = []
const fault = (view, text) => faults.push(`${view}: ${text}`)

function checkSource(html) {
  if (html.length > 600_000) fault('source', `${html.length} characters, more than 600000`)
  if (!html.includes("default-src 'none'")) fault('source', "no policy default-src 'none'")
  if (!/<html[^>]+lang=/.test(html)) fault('source', 'no language')
}

async function open(browser, view, options) {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options })
  const page = await context.newPage()
  page.on('request', request => {
    if (request.url() !== `file://${report}` && !request.url().startsWith('data:')) fault(view, `requests ${request.url()}`)
  })
  page.on('console', line => ['error', 'warning'].includes(line.type()) && fault(view, `console: ${line.text()}`))
  page.on('pageerror', error => fault(view, `script: ${error.message}`))
  await page.goto(`file://${report}`)
  return { context, page }
}

async function checkLayout(page, view) {
  const layout = await page.evaluate(() => ({
    sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tiny: [...document.querySelectorAll('svg text')].filter(label => {
      const height = label.getBoundingClientRect().height
      return height > 0 && height < 8
    }).length,
    panels: document.querySelectorAll('main section').length,
    bare: [...document.querySelectorAll('main section')].filter(s => s.querySelector('svg') && !s.querySelector('table')).length,
  }))
  if (layout.sideways > 0) fault(view, `scrolls sideways by ${layout.sideways} px`)
  if (layout.tiny > 0) fault(view, `${layout.tiny} chart labels below 8 px`)
  if (layout.panels < 5) fault(view, `only ${layout.panels} panels`)
  if (layout.bare > 0) fault(view, `${layout.bare} charts without their numbers in a table`)
}

async function checkAccess(page, view) {
  await page.evaluate(axeSource)
  const result = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }))
  for (const violation of result.violations) fault(view, `axe ${violation.id}: ${violation.help} at ${violation.nodes[0].target}`)
}

checkSource(fs.readFileSync(report, 'utf8'))
if (folder) fs.mkdirSync(folder, { recursive: true })
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'],
})
for (const colorScheme of ['light', 'dark']) {
  for (const width of [1280, 360]) {
    const view = `${colorScheme} ${width}px`
    const viewport = { width, height: 900 }
    const shown = await open(browser, view, { colorScheme, viewport })
    await checkLayout(shown.page, view)
    const withScript = (await shown.page.innerText('body')).length
    if (folder) await shown.page.screenshot({ path: path.join(folder, `${colorScheme}-${width}.png`), fullPage: true })
    await shown.context.close()
    const plain = await open(browser, `${view} without script`, { colorScheme, viewport, javaScriptEnabled: false })
    const withoutScript = (await plain.page.innerText('body')).length
    if (withoutScript < 0.95 * withScript) fault(view, 'text is missing without JavaScript')
    await plain.context.close()
    const access = await open(browser, view, { colorScheme, viewport, bypassCSP: true })
    await checkAccess(access.page, view)
    await access.context.close()
  }
}
await browser.close()
faults.forEach(line => console.log(line))
console.log(`page check: ${faults.length} faults`)
process.exit(faults.length ? 1 : 0)
