// Theme and language before the first paint. A file of its own: the page allows no inline script.
;(function () {
  var root = document.documentElement
  var get = function (key) {
    try {
      return localStorage.getItem(key)
    } catch (e) {
      return null
    }
  }
  var theme = get('troupe.theme')
  var dark = matchMedia('(prefers-color-scheme: dark)').matches
  root.dataset.theme = theme === 'light' || theme === 'dark' ? theme : dark ? 'dark' : 'light'
  var lang = get('troupe.lang') || (/^zh/i.test(navigator.language) ? 'zh' : 'en')
  root.lang = lang === 'zh' ? 'zh-CN' : 'en'
})()
